"""What one machine is and has, whoever asks: NVIDIA's tools, GPU memory, network interfaces."""
