"""Which variants of the CPU kernels can run here."""

from neural3d.ops import native


def instruction_sets() -> tuple[str, ...]:
    """The narrowest first, the last is the one in use. A process that cannot have the one it asks for ends."""
    return native.ISAS[: native.ISAS.index(native._cpu.isa()) + 1]
