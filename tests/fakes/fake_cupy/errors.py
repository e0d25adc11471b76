"""CUDA's errors, and the one that a broken context repeats at every later call."""

INVALID_VALUE, MEMORY_ALLOCATION, ILLEGAL_ADDRESS, LAUNCH_FAILURE = 1, 2, 700, 719
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_UNJOINED, CAPTURE_ISOLATION, CAPTURED_EVENT = 900, 901, 904, 905, 907
_NAMES = {
    INVALID_VALUE: "cudaErrorInvalidValue: invalid argument",
    MEMORY_ALLOCATION: "cudaErrorMemoryAllocation: out of memory",
    ILLEGAL_ADDRESS: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    LAUNCH_FAILURE: "cudaErrorLaunchFailure: unspecified launch failure",
    CAPTURE_UNSUPPORTED: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    CAPTURE_INVALIDATED: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
    CAPTURE_UNJOINED: "cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work",
    CAPTURE_ISOLATION: "cudaErrorStreamCaptureIsolation: dependency created on uncaptured work in another stream",
    CAPTURED_EVENT: "cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream",
}


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        super().__init__(_NAMES[status])
        self.status = status


class CUDADriverError(RuntimeError):
    def __init__(self, status):
        super().__init__("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.status = status


class NVRTCError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


_sticky = None


def break_context(status):
    """Have this and every later call fail; only a new process has a new context."""
    global _sticky
    _sticky = _sticky or status


def check():
    """Raise what broke the context, as every call of CUDA's does."""
    if _sticky:
        raise CUDARuntimeError(_sticky)
