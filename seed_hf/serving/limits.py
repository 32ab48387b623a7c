"""What a server takes, of one client and of all together."""

from dataclasses import dataclass


MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        body: Bytes of a request.
        values: Of the JSON of a request, counted by commas and brackets, before it is parsed.
        pixels: Of an image, read from its header before it is decoded.
        characters: Of all texts of a request together.
        images: Images in a request, and images drawn by one.
        inputs: Texts and images that one request for embeddings or codes may have.
        steps: Denoising steps of a drawing.
        places: Requests that are in work or wait; one more gets status 429.
        seconds: That a request may take, the time it waits included; then it gets status 504.
        batch: Rows that the model works on at once.
        window: Seconds that an idle model waits for more jobs of a kind.
    """

    body: int = 20 * MEGABYTE
    values: int = 300_000
    pixels: int = 24_000_000
    characters: int = 100_000
    images: int = 10
    inputs: int = 256
    steps: int = 100
    places: int = 64
    seconds: float = 120.0
    batch: int = 16
    window: float = 0.005

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0 and not (name == "window" and value == 0):
                raise ValueError(f"The limit {name} must be greater than 0, got {value}.")
