"""Admission: refuse aloud rather than degrade in silence."""

from streamer.avatar.admission import AdmissionConfig, admit


def test_an_idle_server_always_takes_one() -> None:
    """The first session is taken even where it will not keep up: there is nobody it could harm."""
    assert admit(AdmissionConfig(), sessions=0, load=0.0, cost=5.0).admitted


def test_what_does_not_fit_is_refused_with_numbers() -> None:
    """Beyond the promised share the refusal names load, cost and when to come back."""
    verdict = admit(AdmissionConfig(most_load=0.8, retry_after=7), sessions=2, load=0.5, cost=0.4)
    assert not verdict.admitted
    assert verdict.reason == "overloaded"
    assert "40%" in verdict.detail and "50%" in verdict.detail and "80%" in verdict.detail
    assert verdict.retry_after == 7


def test_the_number_of_sessions_is_bounded() -> None:
    """However light, no more than the configured number."""
    config = AdmissionConfig(max_sessions=2)
    assert admit(config, sessions=1, load=0.0, cost=0.0).admitted
    verdict = admit(config, sessions=2, load=0.0, cost=0.0)
    assert (verdict.admitted, verdict.reason) == (False, "too_many_sessions")
