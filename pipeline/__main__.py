"""`python -m pipeline` is the same program as the console command `segloss`."""

from pipeline.cli.app import main

if __name__ == "__main__":
    main()
