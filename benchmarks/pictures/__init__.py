"""How well pictures talk: any folder of photographs and drawings, measured by a judge that is not the fitter."""
