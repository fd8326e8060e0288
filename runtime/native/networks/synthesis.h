// A StyleGAN2 synthesis network, compiled into one program: W+ codes in, RGB picture out.
//
// Every layer is one parallel pass: convolution, demodulation, noise, bias, activation, the next layer's
// style and, where a resolution ends, its share of the RGB picture. 3x3 convolutions from 16 pixels on are
// Winograd F(4x4, 3x3), and larger up-sampling ones F(4x4, 2x2); the others are sums of matrix products over
// the taps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "synthesis_kernels.h"
#include "team.h"

namespace doppelgan {

// A style: weight [channels][w_dim] times row `row` of the codes, plus bias [channels].
struct Style {
    int64_t row;
    const float *weight, *bias;
};

// A styled convolution as exported: weight [outputs][inputs][3][3], or [inputs][outputs][3][3] when it
// doubles the resolution; demod [outputs][inputs], eps, bias [outputs]; noise [size][size].
struct StyledLayer {
    int64_t inputs, outputs;
    bool up;
    Style style;
    const float *weight, *demod, *eps, *bias, *noise;
    float fir_down[4], fir_across[4];
    float clamp;
};

// The RGB of one resolution: weight [3][inputs], bias [3]. The FIR doubles the picture so far.
struct RgbLayer {
    int64_t inputs;
    Style style;
    const float *weight, *bias;
    float fir_down[4], fir_across[4];
    float clamp;
};

class Synthesis {
  public:
    // constant [channels][4][4]. All arrays are copied. Layers must alternate as StyleGAN2's do: one
    // convolution at 4 pixels, then an up-sampling and a plain one per resolution, an RGB layer after each
    // resolution. The arithmetic is that of Winograd layers.
    Synthesis(int64_t w_dim, int64_t rows, const float *constant, const std::vector<StyledLayer> &layers,
              const std::vector<RgbLayer> &rgbs, Arithmetic arithmetic);

    // codes [rows][w_dim] -> picture [3][size][size], RGB. One run at a time.
    void run(const float *codes, float *picture, int threads);

    int64_t size() const { return size_; }
    int64_t rows() const { return rows_; }
    int64_t w_dim() const { return w_dim_; }
    size_t bytes() const;  // of weights and feature maps

  private:
    enum class Kind { direct, winograd, up, up_winograd };
    struct Affine {
        int64_t row, channels;                   // channels as in the file
        std::vector<float> weight, bias, value;  // [channels][w_dim], [channels], [padded]: the style itself
    };
    struct Layer {
        Kind kind;
        int64_t outputs;  // as in the file
        Convolution convolution;
        Affine style;
        Weights weights;
        std::vector<float> demod_weight, eps, demod, bias, noise, squares;
        Large<float> map;        // y
        Large<uint16_t> halves;  // or y in halves

        size_t map_bytes() const { return map.size() * sizeof(float) + halves.size() * sizeof(uint16_t); }
    };
    struct Rgb {
        Affine style;
        std::vector<float> weight, bias, scaled, picture;  // [3][inputs], [3], [3][padded], [3][size][size]
        float fir_down[4], fir_across[4];
    };
    // How a layer's work is divided, and what memory a part needs.
    struct Division {
        int64_t rows, panels, scratch;  // parts along rows or tiles, parts along channels, floats
        int64_t items() const { return rows * panels; }
    };
    Division division(const Layer &layer, int64_t threads) const;
    void compute(const Layer &layer, const Division &division, int64_t item, float *scratch) const;
    void compute_style(int64_t item, const float *codes);
    void apply_style(int64_t item, float *picture);
    void work(Team &team, float *scratch, const float *codes, float *picture);
    float *rgb_of(size_t level, float *picture) {
        return level + 1 == rgbs_.size() ? picture : rgbs_[level].picture.data();
    }

    int64_t w_dim_, rows_, size_;
    std::vector<float> constant_, start_, ones_;
    std::vector<Layer> layers_;
    std::vector<Rgb> rgbs_;
    std::vector<Large<float>> scratch_;  // one for each thread
};

}  // namespace doppelgan
