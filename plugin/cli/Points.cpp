// SPDX-License-Identifier: MIT
#include "Points.h"
#include "spacetime/ImageModel.h"
#include "spacetime/Samples.h"

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

VectorXd readRawPoint(const CommandLine& line, const std::string& name, const PosteriorModel& model) {
    const std::string given = line.require(name);
    const int n = model.variables().size();
    std::string place = "--" + name;
    VectorXd raw;
    if (given.rfind('@', 0) == 0) {
        const std::string file = given.substr(1);
        const auto* images = dynamic_cast<const ImageModel*>(&model);
        if (images != nullptr && !endsWith(file, ".npy") && !endsWith(file, ".npz") && !endsWith(file, ".csv")) {
            ImageReading reading;
            reading.shape = images->imageShape();
            reading.resize = line.has("resize");
            return readImage(file, reading).pixels.col(0);
        }
        const MatrixXd points = readSamples(file).raw;
        place += ": '" + file + "'";
        if (points.cols() != 1)
            throw std::invalid_argument(place + ": expected one point, a row of " + std::to_string(n) + " numbers, got " + std::to_string(points.cols()) + " rows");
        raw = points.col(0);
    }
    else {
        const std::vector<double> numbers = line.numbers(name);
        raw = VectorXd::Map(numbers.data(), numbers.size());
    }
    if (raw.size() != n)
        throw std::invalid_argument(place + ": expected " + std::to_string(n) + " numbers, one a variable, got " + std::to_string(raw.size()));
    return raw;
}

}  // namespace Spacetime
