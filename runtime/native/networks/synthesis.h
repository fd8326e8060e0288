// A StyleGAN2 synthesis network, compiled into one program: W+ codes in, RGB picture out; or several codes in
// and their pictures out, which share a pass over the weights and everything before the first row that differs.
//
// Every layer is one parallel pass: convolution, demodulation, noise, bias, activation, the next layer's
// style and, where a resolution ends, its share of the RGB picture. 3x3 convolutions from 16 pixels on are
// Winograd F(4x4, 3x3), and larger up-sampling ones F(4x4, 2x2); the others are sums of matrix products over
// the taps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "synthesis_kernels.h"
#include "threads.h"

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

// Rows [first, end) of a picture.
struct Rows {
    int64_t first, end;
};

// Which rows are worth drawing in full, judged by the pictures at a coarser size; nullptr: as the first.
using ChooseRows = std::function<Rows(const float *const *pictures, int64_t size)>;

class Synthesis {
  public:
    // constant [channels][4][4]. All arrays are copied. Layers must alternate as StyleGAN2's do: one
    // convolution at 4 pixels, then an up-sampling and a plain one per resolution, an RGB layer after each
    // resolution. The arithmetic is that of Winograd layers.
    Synthesis(int64_t w_dim, int64_t rows, const float *constant, const std::vector<StyledLayer> &layers,
              const std::vector<RgbLayer> &rgbs, Arithmetic arithmetic);

    // codes[n] [rows][w_dim] -> pictures[n] [3][size][size], RGB, for up to MOST_PICTURES n; `size` is the
    // network's or a smaller resolution of it, whose RGB sum is then the picture. One run at a time.
    //
    // With `choose`, it is asked on the way, at a quarter of the size or 64 pixels, whichever is more; from
    // there on only the chosen rows are drawn, and what those need, and all else is that picture doubled.
    void run(const float *const *codes, float *const *pictures, int64_t count, int64_t size, int threads,
             const ChooseRows &choose = nullptr);

    int64_t size() const { return size_; }
    int64_t rows() const { return rows_; }
    int64_t w_dim() const { return w_dim_; }
    size_t bytes() const;  // of weights and feature maps

  private:
    enum class Kind { direct, winograd, up, up_winograd };
    struct Affine {
        int64_t row, channels;            // channels as in the file
        std::vector<float> weight, bias;  // [channels][w_dim], [channels]
    };
    struct Layer {
        Kind kind;
        int64_t outputs;     // as in the file
        Convolution common;  // what is the same for all pictures
        Affine style;
        Weights weights;
        std::vector<float> demod_weight, eps, bias, noise;
        bool halves;  // whether y is kept in halves
    };
    struct Rgb {
        Affine style;
        std::vector<float> weight, bias;  // [3][inputs], [3]
        float fir_down[4], fir_across[4];
    };
    // What depends on a picture's codes. Maps and pictures are allocated when they are first needed.
    struct Lane {
        struct LayerState {
            std::vector<float> style, squares, demod;  // [inputs], [inputs], [outputs], padded
            Large<float> map;                          // y
            Large<uint16_t> halves;                    // or y in halves
        };
        struct RgbState {
            std::vector<float> style, scaled, picture;  // [inputs], [3][inputs] padded; [3][size][size]
        };
        std::vector<float> start;  // the constant's map times the first style
        std::vector<LayerState> layers;
        std::vector<RgbState> rgbs;
    };
    // How a layer's work is divided, and what memory a part needs.
    struct Division {
        int64_t groups;                 // 1: all maps together; or as many as maps: each by itself
        int64_t rows, panels, scratch;  // parts along rows or tiles, parts along channels, floats
        int64_t items() const { return groups * rows * panels; }
    };
    struct Plan;  // what one run does

    Division division(const Layer &layer, const Pictures &pictures, int64_t threads) const;
    void compute(const Layer &layer, const Pictures &pictures, const Division &division, int64_t item,
                 float *scratch) const;
    Plan plan(const float *const *codes, float *const *pictures, int64_t count, int64_t size);
    void compute_style(const Plan &plan, int64_t item);
    void apply_style(const Plan &plan, int64_t item);
    void draw(const Plan &plan, size_t first_step, size_t end_step, int threads);
    void work(Team &team, const Plan &plan, size_t first_step, size_t end_step, float *scratch);
    Map map_of(size_t lane, size_t n);
    float *picture_of(size_t lane, size_t level);

    int64_t w_dim_, rows_, size_;
    std::vector<float> constant_;
    std::vector<Layer> layers_;
    std::vector<Rgb> rgbs_;
    Lane lanes_[MOST_PICTURES];
    std::vector<Large<float>> scratch_;  // one for each thread
};

}  // namespace doppelgan
