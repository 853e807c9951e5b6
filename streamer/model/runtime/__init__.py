"""How the networks run: PyTorch or OpenVINO on the CPU, CUDA graphs on a GPU."""
