// SPDX-License-Identifier: MIT
#pragma once

#include "spacetime/PosteriorModel.h"
#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace Spacetime {

/**
 * The score s = grad log p of a density over D coordinates: all that probability-density geodesics (arXiv:2504.06675) ask of a model.
 *
 * A stochastic field is an average over random draws. Its draws are numbered: the same number means the same noise at every point, so that the noise
 * cancels in differences between neighbouring points of a path. Thread-safe for const calls.
 */
class DensityField {
public:
    virtual ~DensityField() = default;

    /// D.
    virtual int dimension() const = 0;
    /// [D] Length of one turn of each coordinate, 0 where it is not periodic.
    virtual Eigen::VectorXd periods() const { return Eigen::VectorXd::Zero(dimension()); }
    virtual bool isStochastic() const { return false; }
    /// Whether a point has the same coordinates in both fields.
    virtual bool sharesCoordinates(const DensityField& other) const { return dimension() == other.dimension() && periods() == other.periods(); }

    /// Scores [D x n] at the columns of x [D x n]. Throws std::invalid_argument for a wrong shape or x that is not finite, and where a score is not
    /// finite, saying where.
    Eigen::MatrixXd score(const Eigen::MatrixXd& x, long draw = 0) const;

    /// Whether log p itself is known, up to a constant.
    virtual bool hasLogDensity() const { return false; }
    /// log p [n] up to a constant. Throws std::invalid_argument where it is not known.
    virtual Eigen::VectorXd logDensity(const Eigen::MatrixXd& x) const;

    /// Why the density at the point x [D] is zero or unknown, as what is said of it: "lies outside ..."; empty where the model knows it.
    virtual std::string rangeProblem(const Eigen::VectorXd&) const { return ""; }
    /// Throws std::invalid_argument with rangeProblem(), the point called `what`.
    void checkRange(const Eigen::VectorXd& x, const std::string& what) const;
    /// A point as a user knows it, for messages.
    virtual std::string describe(const Eigen::VectorXd& x) const;

    /// Scores evaluated since construction: one a point and draw.
    long evaluations() const { return count.load(); }

protected:
    /// Scores at points that were checked.
    virtual Eigen::MatrixXd compute(const Eigen::MatrixXd& x, long draw) const = 0;
    /// To be called by compute(): one a point and draw.
    void addEvaluations(long n) const { count += n; }

private:
    mutable std::atomic<long> count{0};
};

/**
 * The noisy marginal p_l of any posterior model at one log-SNR l.
 *
 * Coordinates are one a variable: the scaled value (raw - shift)/scale of an unlifted variable (a noisy point x = alpha c + sigma eps stands at
 * y = x/alpha), and the phase 2 pi raw/period of a lifted one, in rad, so that paths stay on the torus. With the posterior mean out of mu,
 *
 *     s_y   = e^l (E[c|y] - y)                                  Tweedie's formula; the data's density smoothed by a Gaussian of variance e^-l
 *     s_phi = kappa (E[sin] cos phi - E[cos] sin phi), kappa = e^l    the data's density smoothed by a von Mises distribution
 *
 * Both come from mu, so a network of any schedule and prediction type serves. With `draws` above 0 the score is its mean over that many noisy copies
 * of the point, x + e^(-l/2) eps, as arXiv:2504.06675 estimates it: the gradient of the expected log-density.
 */
class ModelDensity : public DensityField {
public:
    /// The model must outlive this. Throws std::invalid_argument for a log-SNR that is not finite or below the model's range, or draws < 0.
    ModelDensity(const PosteriorModel& model, double logSnr, int draws = 0, unsigned seed = 1);

    const PosteriorModel& model() const { return posterior; }
    const Variables& variables() const { return posterior.variables(); }
    double logSnr() const { return level; }
    int draws() const { return numDraws; }

    int dimension() const override { return variables().size(); }
    Eigen::VectorXd periods() const override;
    bool sharesCoordinates(const DensityField& other) const override;
    bool isStochastic() const override { return numDraws > 0; }
    /// Known where psi is and the score is no average over draws.
    bool hasLogDensity() const override { return posterior.hasPsi() && numDraws == 0; }
    Eigen::VectorXd logDensity(const Eigen::MatrixXd& x) const override;
    /// Outside the model's range; fewer than 30 effective samples; or so far from the data that the point lies beyond the noise: |s| e^(-l/2) above
    /// 6 + 2 sqrt(D), where data and noise together put sqrt(D).
    std::string rangeProblem(const Eigen::VectorXd& x) const override;
    std::string describe(const Eigen::VectorXd& x) const override;

    /// Coordinates [D x K] of raw values [D x K] (rad, nm) and back; whole turns are kept. Throws std::invalid_argument for a wrong shape or values that are not finite.
    Eigen::MatrixXd coordinates(const Eigen::MatrixXd& raw) const;
    Eigen::MatrixXd raw(const Eigen::MatrixXd& x) const;

protected:
    Eigen::MatrixXd compute(const Eigen::MatrixXd& x, long draw) const override;

private:
    Eigen::MatrixXd naturalParameter(const Eigen::MatrixXd& x) const;
    /// Scores without draws.
    Eigen::MatrixXd scoreAt(const Eigen::MatrixXd& x) const;

    const PosteriorModel& posterior;
    double level;
    int numDraws;
    unsigned seed;
    Eigen::VectorXd shift, scale;  // raw = shift + scale x
};

/// A weighted sum of scores: several models or conditions at once. Classifier-free guidance with strength w is {unconditional, conditional} with the
/// weights {1 - w, w}.
class GuidedDensity : public DensityField {
public:
    /// Fields of the same dimension and periods, which must outlive this. Throws std::invalid_argument where they do not fit together.
    GuidedDensity(std::vector<const DensityField*> fields, std::vector<double> weights);

    int dimension() const override { return fields[0]->dimension(); }
    Eigen::VectorXd periods() const override { return fields[0]->periods(); }
    bool isStochastic() const override;
    bool hasLogDensity() const override;
    Eigen::VectorXd logDensity(const Eigen::MatrixXd& x) const override;
    /// The first problem that a field has.
    std::string rangeProblem(const Eigen::VectorXd& x) const override;
    std::string describe(const Eigen::VectorXd& x) const override { return fields[0]->describe(x); }

protected:
    Eigen::MatrixXd compute(const Eigen::MatrixXd& x, long draw) const override;

private:
    std::vector<const DensityField*> fields;
    std::vector<double> weights;
};

}  // namespace Spacetime
