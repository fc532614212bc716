"""Errors of memory that ran out, whichever library wanted it."""

TOO_LITTLE = "This machine's memory does not suffice: choose a smaller size or fewer photos."

_OPENCV_NO_MEMORY = -4


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, OpenCV or torch did not get the memory that they asked for.

    Told by names, since none of them should be loaded for a command that does not use it.
    """
    library = type(error).__module__.partition(".")[0]
    return (
        isinstance(error, MemoryError)
        or (library == "cv2" and getattr(error, "code", None) == _OPENCV_NO_MEMORY)
        or (library == "torch" and type(error).__name__ == "OutOfMemoryError")
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't alloc" in str(error))
    )
