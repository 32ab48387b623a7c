"""`python -m seed_hf.cli`, for launchers such as torchrun that start a module."""

from .app import main


if __name__ == "__main__":
    main()
