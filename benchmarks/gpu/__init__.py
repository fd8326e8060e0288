"""What a bundle and full-size networks take on an NVIDIA GPU: checked first, then timed, part by part.

    python -m benchmarks.gpu --output out/gpu            # on a machine with a GPU, its tools and PyTorch
    python -m benchmarks.gpu --rehearse --output out/gpu # the same program with tiny networks on the CPU

Every part is a process of its own with its own time limit that writes its results as it goes: one that
fails loses nothing of the others. All prepare side by side (export, compile, references on the CPU); then
they measure one after the other, so that nobody else uses the GPU meanwhile.
"""
