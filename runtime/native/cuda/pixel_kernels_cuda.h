/* The two pixel kernels for frames that already live on the GPU: a plain C interface, for dlopen or ctypes.
 *
 * They compute what reference.py defines. Pointers are device memory; the work is queued on `stream` (a
 * cudaStream_t, NULL for the default stream) and the call returns at once. Pitches are bytes from row to row.
 * Results are cudaError_t values: 0 is success, 1 (cudaErrorInvalidValue) means an unusable matrix or size.
 */
#ifndef DOPPELGAN_PIXEL_KERNELS_CUDA_H
#define DOPPELGAN_PIXEL_KERNELS_CUDA_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define DOPPELGAN_API __declspec(dllexport)
#else
#define DOPPELGAN_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Frame -> network input. */
DOPPELGAN_API int doppelgan_cuda_warp_crop(
    const uint8_t *image,                                        /* [height,width,3] BGR, device */
    int height, int width, size_t pitch, const double matrix[6], /* [2,3] crop pixels -> frame pixels, host */
    float *out,                                                  /* [3,size,size] RGB -1..1, device */
    int size, void *stream);

/* Network output -> frame, in place. */
DOPPELGAN_API int doppelgan_cuda_paste(
    uint8_t *frame,                                          /* [height,width,3] BGR, device */
    int height, int width, size_t pitch, const float *image, /* [3,size,size] RGB, nominally -1..1, device */
    const float *mask,                /* [size,size] 0..1, device, or NULL for 1 everywhere */
    int size, const double matrix[6], /* [2,3] image pixels -> frame pixels, host */
    const float gain[3],              /* RGB, host */
    const float offset[3],            /* RGB, host */
    void *stream);

/* What an error number means; never NULL. */
DOPPELGAN_API const char *doppelgan_cuda_error(int error);

#ifdef __cplusplus
}
#endif

#endif
