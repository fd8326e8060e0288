// An encoder's convolutions as exported -> what the kernels read.
#pragma once

#include <cstdint>
#include <vector>

#include "encoder.h"

namespace doppelgan {

// Whether a line of taps meets a pixel of x for any pixel of the result.
bool meets(const MapConvolution &c, int64_t tap_line);

// The matrices of the convolution's method.
Weights pack_convolution(const EncoderStep &step, const MapConvolution &c, Arithmetic arithmetic);

// [9][padded outputs]: the bias, and what the shift of x adds where all taps, or only some, lie in the map.
std::vector<float> border_bias(const EncoderStep &step, int64_t outputs);

}  // namespace doppelgan
