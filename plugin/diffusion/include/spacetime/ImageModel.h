// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/DenoiserModel.h"
#include "spacetime/Images.h"
#include <functional>
#include <memory>

struct SpacetimeUnet;

namespace Spacetime {

struct ImageModelFile;

/// Shape of the U-Net of an ImageModel.
struct UnetShape {
    int patch = 2;                             ///< pixels of a square of this side become channels of one (1: none)
    int channels = 48;                         ///< at the first level
    std::vector<int> multipliers = {1, 2, 2};  ///< of the channels, one a level; each level halves the resolution
    int blocks = 1;                            ///< residual blocks a level, on the way down and on the way up
    int embedding = 128;                       ///< width of the noise level's embedding

    /// A shape that suits pictures of this size: the one above, a smaller one for small pictures.
    static UnetShape forPictures(const ImageShape& image);
};

/**
 * A denoiser of pictures: a U-Net with EDM's preconditioning (Karras et al., arXiv:2206.00364), evaluated by LibTorch on the CPU or a GPU.
 *
 * Variables are the pixels, row by row, the channels of a pixel together: raw values in [0, 1], c = (raw - 0.5)/0.5. One safetensors file holds the
 * weights, the shapes and the training record; opening it runs no code. Derivatives are forward-mode products; a whole covariance is
 * made of D + 1 of them, so that only products are offered where D > 256.
 */
class ImageModel : public DenoiserModel {
public:
    /// `device` is cpu or cuda. Throws std::invalid_argument for files that hold no picture model or a damaged one, std::runtime_error where LibTorch cannot
    /// be opened.
    static std::unique_ptr<ImageModel> load(const std::string& path, const std::string& device = "cpu");

    const ImageShape& imageShape() const { return image; }
    const UnetShape& unet() const { return shape; }
    std::int64_t numParameters() const { return count; }
    /// The training record: JSON object with command, seed, steps, seconds, losses [[step, training, held out]].
    const std::string& training() const { return record; }
    /// Bytes of activations at the same time (1e9): sets how many pictures go through the net together. Where they are not to be had it is fewer.
    void setActivationMemory(double bytes);

protected:
    Predictions predict(const Inputs& inputs, bool derivatives) const override;
    Eigen::MatrixXd predictAlong(const Inputs& inputs, const Eigen::MatrixXd& alongX, const Eigen::VectorXd& alongLevel, Eigen::MatrixXd& values) const override;
    double derivativeError() const override { return 1e-6; }

private:
    using Handle = std::shared_ptr<SpacetimeUnet>;
    ImageModel(const std::string& path, Handle net, ImageModelFile&& file);
    /// Values, and the derivatives along the directions where there are any.
    Eigen::MatrixXd run(const Inputs& inputs, const Eigen::MatrixXd* alongX, const Eigen::VectorXd* alongLevel, Eigen::MatrixXd& values) const;

    std::string path;
    Handle net;
    ImageShape image;
    UnetShape shape;
    std::int64_t count;
    std::string record;
    double memory;
};

/// The model in a safetensors file of this program, whichever it is: NetworkModel or ImageModel. `device` is cpu, or cuda for an ImageModel.
std::unique_ptr<PosteriorModel> loadModel(const std::string& path, const std::string& device = "cpu");
/// What such a file says of its model, without the weights. Needs no LibTorch.
nlohmann::json describeModel(const std::string& path);

struct ImageTrainingOptions {
    int steps = 2000;
    int batch = 64;
    unsigned seed = 1;
    double learningRate = 2e-3;            ///< of Adam, warm-up and cosine
    double averaging = 0.999;              ///< decay of the running average of the weights, which is kept
    double heldOut = 0.05;                 ///< share of the pictures that is never trained on
    double minLogSnr = -6, maxLogSnr = 9;  ///< range of log-SNR that is trained
    bool flips = false;                    ///< mirror every second picture, at random
    UnetShape unet;
    std::string device = "cpu";
    int threads = 0;  ///< 0: all cores
    int reportEvery = 50;
    std::string command;  ///< written to the training record
    /// Gets the running loss and that of the averaged weights on the pictures held out; return false to stop: what was learned is kept.
    std::function<bool(int step, int steps, double loss, double heldOut)> progress;
    /// Asked after every step; return false to stop as above.
    std::function<bool()> goOn;
    std::string checkpoint;  ///< as TrainingOptions::checkpoint
    double checkpointSeconds = 30;
    bool resume = false;
};

struct ImageTrainingResult {
    double loss = 0, heldOutLoss = 0, seconds = 0;
    int steps = 0, pictures = 0, heldOut = 0;
    std::int64_t numParameters = 0;
    bool stopped = false, resumed = false;
};

/// Trains a denoiser on pictures and writes a safetensors model file. Same seed, device and number of threads: same model. Throws std::invalid_argument for
/// fewer than 16 pictures, pictures that are all the same, values outside [0, 1] or not finite, and a size that the levels of the U-Net do not divide.
ImageTrainingResult trainImages(const ImageSet& pictures, const ImageTrainingOptions& options, const std::string& outFile);

}  // namespace Spacetime
