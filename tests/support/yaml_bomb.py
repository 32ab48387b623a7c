"""A short YAML text that stands for more values than any memory holds."""


def bomb(levels: int = 12, width: int = 9) -> str:
    """Some hundred characters of aliases that stand for 9 ** 12 values."""
    lines = ["a0: &a0 [" + ", ".join(["x"] * width) + "]"]
    lines += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * width) + "]" for i in range(1, levels)]
    return "\n".join(lines)
