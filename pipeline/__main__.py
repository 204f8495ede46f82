"""`python -m pipeline` is the same program as the console command `whichloss`."""

from pipeline.cli.app import main

if __name__ == "__main__":
    main()
