// Gaussian blurs of small square maps.
#pragma once

#include <cstdint>
#include <vector>

namespace doppelgan {

// The weights of one blur: what a cell takes of those within four times its width, borders counting what lies
// inside. A wide one works on sums and differences of cells that mirror each other: half of the products.
class Blur {
  public:
    Blur(int64_t size, double sigma);  // sigma: in cells of a map of 64

    // [size,size], each; `out` may be `map`.
    void operator()(const float *map, float *out) const;
    bool is(int64_t size, double sigma) const { return size == size_ && sigma == sigma_; }

  private:
    double share_of(int64_t cell, int64_t other) const;
    void build_narrow();
    void build_wide();

    int64_t size_, reach_, taps_, half_;
    double sigma_;
    bool wide_;
    // Narrow: [taps] far from borders; [size] by what each cell's sum is to be multiplied. Wide: of sums; of
    // differences; each [half,half], by who takes and by who gives.
    std::vector<float> by_cell_[2], by_other_[2];
};

// Kept from call to call.
const Blur &blur_of(int64_t size, double sigma);

}  // namespace doppelgan
