// SPDX-License-Identifier: MIT
#include "Dop853.h"
#include <algorithm>
#include <cmath>

using Eigen::MatrixXd;
using Eigen::VectorXd;

namespace Spacetime {

namespace Dop853 {

namespace {

/// The last row makes the step itself; the slope at its end is the next step's first stage.
const int Stages = 13;
const double stageWeights[Stages][Stages - 1] = {
    {},
    {0.05260015195876773},
    {0.0197250569845379, 0.0591751709536137},
    {0.02958758547680685, 0, 0.08876275643042054},
    {0.2413651341592667, 0, -0.8845494793282861, 0.924834003261792},
    {0.037037037037037035, 0, 0, 0.17082860872947386, 0.12546768756682242},
    {0.037109375, 0, 0, 0.17025221101954405, 0.06021653898045596, -0.017578125},
    {0.03709200011850479, 0, 0, 0.17038392571223998, 0.10726203044637328, -0.015319437748624402, 0.008273789163814023},
    {0.6241109587160757, 0, 0, -3.3608926294469414, -0.868219346841726, 27.59209969944671, 20.154067550477894, -43.48988418106996},
    {0.47766253643826434, 0, 0, -2.4881146199716677, -0.590290826836843, 21.230051448181193, 15.279233632882423, -33.28821096898486, -0.020331201708508627},
    {-0.9371424300859873, 0, 0, 5.186372428844064, 1.0914373489967295, -8.149787010746927, -18.52006565999696, 22.739487099350505, 2.4936055526796523, -3.0467644718982196},
    {2.273310147516538, 0, 0, -10.53449546673725, -2.0008720582248625, -17.9589318631188, 27.94888452941996, -2.8589982771350235, -8.87285693353063, 12.360567175794303,
     0.6433927460157636},
    {0.054293734116568765, 0, 0, 0, 0, 4.450312892752409, 1.8915178993145003, -5.801203960010585, 0.3111643669578199, -0.1521609496625161, 0.20136540080403034,
     0.04471061572777259},
};
const double errorWeights3[Stages] = {
    -0.18980075407240762, 0, 0, 0, 0, 4.450312892752409, 1.8915178993145003, -5.801203960010585, -0.4226823213237919, -0.1521609496625161, 0.20136540080403034,
    0.02265179219836082};
const double errorWeights5[Stages] = {
    0.01312004499419488,  0, 0, 0, 0, -1.2251564463762044, -0.4957589496572502, 1.6643771824549864, -0.35032884874997366, 0.3341791187130175, 0.08192320648511571,
    -0.022355307863886294};

}  // namespace

bool step(const Slope& f, const VectorXd& t, const MatrixXd& state, const MatrixXd& slope, const VectorXd& h, Step& result) {
    MatrixXd slopes[Stages];
    slopes[0] = slope;
    for (int s = 1; s < Stages; s++) {
        MatrixXd change = MatrixXd::Zero(state.rows(), state.cols());
        double node = 0;  // the share of the step at which this stage lies: the sum of its weights
        for (int k = 0; k < s; k++)
            if (stageWeights[s][k] != 0) {
                change += stageWeights[s][k] * slopes[k];
                node += stageWeights[s][k];
            }
        result.end = state + change * h.asDiagonal();
        if (!f(t + node * h, result.end, slopes[s]))
            return false;
    }
    auto estimate = [&](const double* weights) {
        MatrixXd sum = MatrixXd::Zero(state.rows(), state.cols());
        for (int s = 0; s < Stages; s++)
            if (weights[s] != 0)
                sum += weights[s] * slopes[s];
        return MatrixXd(sum * h.asDiagonal());
    };
    result.error3 = estimate(errorWeights3);
    result.error5 = estimate(errorWeights5);
    result.slope = slopes[Stages - 1];
    return true;
}

double error(double size3, double size5) { return size5 > 0 ? size5 * size5 / std::hypot(size5, 0.1 * size3) : 0; }

double shrink(double error) { return std::isfinite(error) ? std::max(0.2, 0.9 * std::pow(error, -0.125)) : 0.5; }

double grow(double error, bool refusedBefore) { return std::min(refusedBefore ? 1.0 : 5.0, 0.9 * std::pow(std::max(error, 1e-10), -0.125)); }

}  // namespace Dop853

}  // namespace Spacetime
