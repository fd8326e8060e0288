// An image encoder, compiled into one program: RGB crop in, W+ codes out.
//
// Every layer is one or two parallel passes. Large maps are divided into bands of tiles; of small ones, where
// the weights are larger than the map, every thread transforms a part, then computes a part of the output
// channels. Convolutions that do not wait for each other, such as the heads' first ones, which read one map,
// share both passes, and a map that several of them read is transformed once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "encoder_kernels.h"
#include "threads.h"

namespace doppelgan {

// Maps are numbered; PICTURE is the crop.
constexpr int PICTURE = -1, NO_MAP = -2;

struct MapShape {
    int64_t size, channels;
};

// What computes a map, or a code.
enum class StepKind {
    convolution,  // target = leaky(conv(source * scale + shift) + bias + other)
    gate,         // target = source * sigmoid(gate2 relu(gate1 mean(source))) + other, every `stride`th pixel
    doubling,     // target = source at twice the size
};

struct EncoderStep {
    StepKind kind;
    int source, target, other;  // maps
    // Convolution, as exported: weight [outputs][inputs][side][side], bias and slope [outputs], scale and
    // shift [inputs] or nullptr. They apply to x's pixels, not to the zeros around them.
    int64_t inputs, outputs, side, stride;
    const float *weight, *bias, *slope, *scale, *shift;
    // Gate: gate1 [squeezed][channels], gate2 [channels][squeezed].
    int64_t squeezed;
    const float *gate1, *gate2;
};

// One row of the codes: weight [w_dim][channels], if any, times the source's mean pixel, bias [w_dim], and
// the product of the row `base` unless that is negative.
struct CodeRow {
    int source, base;
    const float *weight, *bias;
};

class Encoder {
  public:
    // All arrays are copied. Steps compute maps before other steps read them.
    Encoder(int64_t planes, int64_t size, int64_t w_dim, const std::vector<MapShape> &maps,
            const std::vector<EncoderStep> &steps, const std::vector<CodeRow> &rows, Arithmetic arithmetic);

    // crop [planes][size][size] -> codes [rows][w_dim]. One run at a time.
    void run(const float *crop, float *codes, int threads);

    int64_t size() const { return size_; }
    int64_t planes() const { return planes_; }
    int64_t rows() const { return static_cast<int64_t>(rows_.size()); }
    int64_t w_dim() const { return w_dim_; }
    size_t bytes() const;  // of weights and feature maps

  private:
    using Memory = Large<float>;
    struct Layer {  // a convolution
        MapConvolution convolution;
        Weights weights;
        std::vector<float> scale, bias, slope;
        bool measured;  // a gate wants to know the sums
        size_t sums;    // where they lie
    };
    struct Gate {
        Gated gated;
        size_t layer;  // whose sums it reads
        int64_t squeezed;
        std::vector<float> weight1, weight2;  // [squeezed][channels], [channels][squeezed], both padded
    };
    struct Doubling {
        int64_t size, channels;
        const float *from;
        float *to;
    };
    // Layers of equal shape that do not wait for each other, or one of the others.
    struct Step {
        StepKind kind;
        size_t first, end;  // in layers_, gates_ or doublings_
    };
    struct Row {
        int base;
        int64_t size, channels;
        const float *map;
        std::vector<float> weight, bias, product;
    };
    // How the work on one layer is divided.
    struct Division {
        bool shared;           // transform everything, then divide by channels
        int64_t parts, width;  // bands, or parts of the channels and their width
        int64_t tiles;         // most tiles in memory at once
        int64_t scratch;       // floats for a thread
    };

    Division division(const Layer &layer, int64_t members, int64_t threads) const;
    int64_t maps_before(size_t first, size_t layer) const;
    void convolve(Team &team, const Step &step, float *scratch);
    void gate(Team &team, const Gate &gate, float *scratch);
    void write_codes(Team &team, float *codes, float *scratch);
    void work(Team &team, float *scratch, float *codes);

    int64_t planes_, size_, w_dim_;
    std::vector<Memory> memory_;  // of maps
    std::vector<Layer> layers_;
    std::vector<Gate> gates_;
    std::vector<Doubling> doublings_;
    std::vector<Step> steps_;
    std::vector<Row> rows_;
    std::vector<float> sums_;
    Memory factors_;
    std::vector<Memory> scratch_;  // one for each thread
};

}  // namespace doppelgan
