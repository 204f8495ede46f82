"""The 3D U-Net, its losses and its engines: one run of one loss on one fold with one seed."""
