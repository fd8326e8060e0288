// The CUDA pixel kernels against the C++ ones on random squares; then, only if they agree, both are timed.
//
//   g++ -O3 -std=c++17 -fno-math-errno -fno-trapping-math -c
//   runtime/native/pixels/pixel_kernels.cpp -o build/pixel_kernels.o
//   nvcc -O3 -std=c++17 -arch=native -Iruntime/native benchmarks/pixel_kernels_cuda.cu
//   runtime/native/cuda/pixel_kernels.cu \
//        build/pixel_kernels.o -o build/pixel_kernels_cuda && build/pixel_kernels_cuda
//
// Crops must agree within 5e-5 (a level is 8e-3). Pasted bytes may differ by one level in at most one of a
// thousand: the GPU fuses multiplications and additions, so a half may round the other way.

#include <cuda_runtime.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "pixels/pixel_kernels.h"
#include "cuda/pixel_kernels_cuda.h"

using doppelgan::Affine;

static void check(int error, const char *what) {
    if (error == 0) return;
    std::printf("%s: %s\n", what, doppelgan_cuda_error(error));
    std::exit(1);
}

template <typename T>
struct OnDevice {
    T *data = nullptr;
    explicit OnDevice(const std::vector<T> &host) {
        check(cudaMalloc(&data, host.size() * sizeof(T)), "cudaMalloc");
        check(cudaMemcpy(data, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice),
              "copy to the GPU");
    }
    void read(std::vector<T> &host) const {
        check(cudaMemcpy(host.data(), data, host.size() * sizeof(T), cudaMemcpyDeviceToHost),
              "copy from the GPU");
    }
    ~OnDevice() { cudaFree(data); }
};

static Affine similarity(double scale, double roll, double x, double y, int size) {
    const double c = scale * std::cos(roll), s = scale * std::sin(roll), half = (size - 1) / 2.0;
    return {c, -s, x - (c - s) * half, s, c, y - (s + c) * half};
}

template <typename Function>
static double median_ms(int repetitions, const Function &function) {
    std::vector<double> times;
    for (int i = 0; i < repetitions + 3; ++i) {  // the first three warm up
        const auto start = std::chrono::steady_clock::now();
        function();
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
        if (i >= 3) times.push_back(took.count());
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

int main() {
    std::mt19937 random(1);
    const auto between = [&](double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(random);
    };
    const float gain[3] = {1.2f, 0.8f, 1.0f}, offset[3] = {0.1f, -0.2f, 0.0f};

    double worst_crop = 0, most_off = 0;
    int worst_paste = 0;
    for (int trial = 0; trial < 300; ++trial) {
        const int height = 1 + random() % 200, width = 1 + random() % 200, size = 1 + random() % 150;
        const Affine m = similarity(std::pow(2, between(-4, 4)), between(-4, 4), between(-1, 2) * width,
                                    between(-1, 2) * height, size);
        const double matrix[6] = {m.xx, m.xy, m.x0, m.yx, m.yy, m.y0};
        std::vector<uint8_t> frame(static_cast<size_t>(height) * width * 3);
        std::vector<float> image(static_cast<size_t>(3) * size * size),
            mask(static_cast<size_t>(size) * size);
        for (auto &v : frame) v = static_cast<uint8_t>(random());
        for (auto &v : image) v = static_cast<float>(between(-1.5, 1.5));
        for (auto &v : mask) v = static_cast<float>(std::max(0.0, between(-0.5, 1)));
        const bool masked = trial % 2;

        std::vector<float> expected(image.size()), got(image.size());
        OnDevice<uint8_t> frame_gpu(frame);
        OnDevice<float> image_gpu(image), mask_gpu(mask), out_gpu(got);
        doppelgan::warp_crop(frame.data(), height, width, m, expected.data(), size, doppelgan::Border::REFLECT, 1);
        check(doppelgan_cuda_warp_crop(frame_gpu.data, height, width, width * 3, matrix, out_gpu.data, size,
                                       nullptr),
              "crop");
        out_gpu.read(got);
        for (size_t i = 0; i < got.size(); ++i)
            worst_crop = std::max<double>(worst_crop, std::abs(got[i] - expected[i]));

        std::vector<uint8_t> pasted(frame.size());
        doppelgan::paste(frame.data(), height, width, image.data(), masked ? mask.data() : nullptr, size, m,
                         gain, offset, 1);
        check(doppelgan_cuda_paste(frame_gpu.data, height, width, width * 3, image_gpu.data,
                                   masked ? mask_gpu.data : nullptr, size, matrix, gain, offset, nullptr),
              "paste");
        frame_gpu.read(pasted);
        size_t off = 0;
        for (size_t i = 0; i < pasted.size(); ++i) {
            const int apart = std::abs(pasted[i] - frame[i]);
            worst_paste = std::max(worst_paste, apart), off += apart > 0;
        }
        if (off > 2)
            most_off = std::max(most_off, static_cast<double>(off) / static_cast<double>(pasted.size()));
    }
    std::printf(
        "300 random squares: crop within %.1e, paste within %d level(s), at most %.4f %% of bytes off\n",
        worst_crop, worst_paste, 100 * most_off);
    if (worst_crop > 5e-5 || worst_paste > 1 || most_off > 1e-3) {
        std::printf("FAILED: the CUDA kernels disagree with the C++ kernels\n");
        return 1;
    }

    cudaDeviceProp device;
    check(cudaGetDeviceProperties(&device, 0), "device");
    std::printf(
        "\n%s, frames and images on the GPU; medians of 200\n\n| kernel | frame | square px | CUDA ms | C++ "
        "1 thread ms |\n|---|---|---|---|---|\n",
        device.name);
    const int size = 256;
    for (const auto &[width, height] : {std::pair{1280, 720}, std::pair{1920, 1080}})
        for (const double scale : {1.0, 1.4, 2.0, 3.3}) {
            const Affine m = similarity(scale, 0.2, width / 2.0, height / 2.0, size);
            const double matrix[6] = {m.xx, m.xy, m.x0, m.yx, m.yy, m.y0};
            std::vector<uint8_t> frame(static_cast<size_t>(height) * width * 3, 90);
            std::vector<float> image(3 * size * size, 0.3f), mask(size * size, 0.7f), out(image.size());
            OnDevice<uint8_t> frame_gpu(frame);
            OnDevice<float> image_gpu(image), mask_gpu(mask), out_gpu(out);
            const double crop_gpu = median_ms(200, [&] {
                check(doppelgan_cuda_warp_crop(frame_gpu.data, height, width, width * 3, matrix, out_gpu.data,
                                               size, nullptr),
                      "crop");
                cudaDeviceSynchronize();
            });
            const double paste_gpu = median_ms(200, [&] {
                check(doppelgan_cuda_paste(frame_gpu.data, height, width, width * 3, image_gpu.data,
                                           mask_gpu.data, size, matrix, gain, offset, nullptr),
                      "paste");
                cudaDeviceSynchronize();
            });
            const double crop = median_ms(
                50, [&] { doppelgan::warp_crop(frame.data(), height, width, m, out.data(), size, doppelgan::Border::REFLECT, 1); });
            const double paste = median_ms(50, [&] {
                doppelgan::paste(frame.data(), height, width, image.data(), mask.data(), size, m, gain,
                                 offset, 1);
            });
            std::printf("| crop | %dx%d | %.0f | %.4f | %.3f |\n", width, height, scale * size, crop_gpu,
                        crop);
            std::printf("| paste | %dx%d | %.0f | %.4f | %.3f |\n", width, height, scale * size, paste_gpu,
                        paste);
        }
    return 0;
}
