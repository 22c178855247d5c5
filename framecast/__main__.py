"""`python -m framecast` is the command line."""

from framecast.cli import main

if __name__ == "__main__":
    main()
