// SPDX-License-Identifier: MIT
#include "spacetime/Curve.h"
#include "spacetime/Files.h"
#include "spacetime/Json.h"
#include "spacetime/Text.h"
#include <algorithm>
#include <cmath>
#include <stdexcept>

using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

namespace Spacetime {

MatrixXd monotoneSlopes(const VectorXd& x, const MatrixXd& y) {
    const Eigen::Index n = x.size();
    MatrixXd slopes = MatrixXd::Zero(y.rows(), n);
    if (n < 2)
        return slopes;
    const VectorXd h = x.tail(n - 1) - x.head(n - 1);
    for (Eigen::Index r = 0; r < y.rows(); r++) {
        const VectorXd delta = (y.row(r).tail(n - 1) - y.row(r).head(n - 1)).transpose().cwiseQuotient(h);
        // Inner slopes: weighted harmonic mean of the secants, 0 at an extremum (Fritsch and Butland 1984).
        for (Eigen::Index i = 1; i < n - 1; i++)
            if (delta[i - 1] * delta[i] > 0) {
                const double w1 = 2 * h[i] + h[i - 1], w2 = h[i] + 2 * h[i - 1];
                slopes(r, i) = (w1 + w2) / (w1 / delta[i - 1] + w2 / delta[i]);
            }
        // End slopes: three-point formula, limited so that the first and last pieces stay monotone.
        auto end = [](double h0, double h1, double d0, double d1) {
            const double slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1);
            if (slope * d0 <= 0)
                return 0.0;
            return d0 * d1 <= 0 && std::abs(slope) > 3 * std::abs(d0) ? 3 * d0 : slope;
        };
        if (n == 2)
            slopes(r, 0) = slopes(r, 1) = delta[0];
        else {
            slopes(r, 0) = end(h[0], h[1], delta[0], delta[1]);
            slopes(r, n - 1) = end(h[n - 2], h[n - 3], delta[n - 2], delta[n - 3]);
        }
    }
    return slopes;
}

Curve::Curve(Variables variables, VectorXd s, MatrixXd eta) : vars(std::move(variables)), nodesS(std::move(s)), nodesEta(std::move(eta)) {
    const Eigen::Index n = nodesS.size();
    if (n < 2)
        throw std::invalid_argument("Curve: expected at least 2 points, got " + std::to_string(n));
    if (nodesEta.rows() != vars.numStatistics() || nodesEta.cols() != n)
        throw std::invalid_argument("Curve: expected eta of " + std::to_string(n) + " points with " + std::to_string(vars.numStatistics()) + " components, got " +
                                    std::to_string(nodesEta.cols()) + " with " + std::to_string(nodesEta.rows()));
    if (!nodesS.allFinite() || !nodesEta.allFinite())
        throw std::invalid_argument("Curve: s or eta holds a value that is not finite");
    if (std::abs(nodesS[0]) > 1e-12 || std::abs(nodesS[n - 1] - 1) > 1e-12)
        throw std::invalid_argument("Curve: expected s from 0 to 1, got " + text(nodesS[0]) + " to " + text(nodesS[n - 1]));
    for (Eigen::Index i = 1; i < n; i++)
        if (!(nodesS[i] > nodesS[i - 1]))
            throw std::invalid_argument("Curve: s must increase, but s[" + std::to_string(i) + "] = " + text(nodesS[i]) + " follows " + text(nodesS[i - 1]));
    if (vars.hasQuadratic() && nodesEta.row(0).maxCoeff() > 0)
        throw std::invalid_argument("Curve: eta_l = -e^logSNR/2 cannot be positive, got " + text(nodesEta.row(0).maxCoeff()));
    nodesS[0] = 0;
    nodesS[n - 1] = 1;
    slopes = monotoneSlopes(nodesS, nodesEta);
}

void Curve::evaluate(double s, VectorXd& eta, VectorXd* derivative) const {
    if (std::isnan(s))
        throw std::invalid_argument("Curve: s is NaN");
    eta.resize(nodesEta.rows());
    if (derivative != nullptr)
        derivative->resize(nodesEta.rows());
    evaluateHermite(nodesS.data(), numPoints(), nodesEta.data(), slopes.data(), static_cast<int>(nodesEta.rows()), s, eta.data(),
                    derivative == nullptr ? nullptr : derivative->data());
}

void evaluateHermite(const double* nodes, int numPoints, const double* values, const double* slopes, int numComponents, double s, double* value, double* derivative) {
    const double clamped = std::min(nodes[numPoints - 1], std::max(nodes[0], s));
    const long segment = std::upper_bound(nodes + 1, nodes + numPoints - 1, clamped) - nodes - 1;
    const double h = nodes[segment + 1] - nodes[segment], t = (clamped - nodes[segment]) / h, t2 = t * t, t3 = t2 * t;
    const double h01 = 3 * t2 - 2 * t3, h10 = t3 - 2 * t2 + t, h11 = t3 - t2;
    const double d01 = 6 * (t - t2) / h, d10 = 3 * t2 - 4 * t + 1, d11 = 3 * t2 - 2 * t;
    const double *y0 = values + segment * numComponents, *y1 = y0 + numComponents, *m0 = slopes + segment * numComponents, *m1 = m0 + numComponents;
    for (int i = 0; i < numComponents; i++) {
        const double rise = y1[i] - y0[i];
        // The far node itself, so that the last node is met to the last bit.
        value[i] = t == 1.0 ? y1[i] : y0[i] + h01 * rise + h * (h10 * m0[i] + h11 * m1[i]);
        if (derivative != nullptr)
            derivative[i] = s != clamped ? 0.0 : d01 * rise + d10 * m0[i] + d11 * m1[i];
    }
}

Curve Curve::respaced(const PosteriorModel& model, int numPoints) const {
    if (numPoints < 2)
        throw std::invalid_argument("Curve: expected at least 2 points, got " + std::to_string(numPoints));
    Curve curve = *this;
    VectorXd eta;
    // The length between nodes is read off a finer sampling; a second round removes what the first left.
    for (int round = 0; round < 3; round++) {
        const int fine = 4 * std::max(numPoints, curve.numPoints());
        MatrixXd sampled(nodesEta.rows(), fine + 1);
        for (int i = 0; i <= fine; i++) {
            curve.evaluate(static_cast<double>(i) / fine, eta);
            sampled.col(i) = eta;
        }
        const VectorXd at = equalSpacing(model, sampled, numPoints);
        MatrixXd nodes(nodesEta.rows(), numPoints);
        VectorXd s(numPoints);
        for (int k = 0; k < numPoints; k++) {
            curve.evaluate(at[k] / fine, eta);
            nodes.col(k) = eta;
            s[k] = static_cast<double>(k) / (numPoints - 1);
        }
        Curve next(vars, s, nodes);
        next.temperature = temperature;
        next.schedule = schedule;
        curve = next;
    }
    const CurveMeasure m = Spacetime::measure(model, curve.eta());
    curve.energy = m.energy;
    curve.length = m.length;
    curve.lengthExtrapolated = m.lengthExtrapolated;
    curve.speedGap = m.speedGap;
    return curve;
}

VectorXd equalSpacing(const PosteriorModel& model, const MatrixXd& eta, int numPoints) {
    const Eigen::Index last = eta.cols() - 1;
    const MatrixXd mu = model.moments(eta, PosteriorModel::Order::Mean).mu;
    VectorXd lengths(last);
    for (Eigen::Index i = 0; i < last; i++)
        lengths[i] = std::sqrt(std::max(0.0, (eta.col(i + 1) - eta.col(i)).dot(mu.col(i + 1) - mu.col(i))));
    return equalParts(lengths, numPoints);
}

VectorXd equalParts(const VectorXd& lengths, int numPoints) {
    const Eigen::Index last = lengths.size();
    VectorXd cumulative = VectorXd::Zero(last + 1);
    for (Eigen::Index i = 0; i < last; i++)
        cumulative[i + 1] = cumulative[i] + lengths[i];
    const double total = cumulative[last];
    if (!(total > 0))
        throw std::invalid_argument("Curve: a curve of length 0 cannot be respaced");
    VectorXd at(numPoints);
    for (Eigen::Index k = 0, i = 0; k < numPoints; k++) {
        const double target = total * k / (numPoints - 1);
        while (i < last - 1 && cumulative[i + 1] < target)
            i++;
        const double step = cumulative[i + 1] - cumulative[i];
        at[k] = i + (step > 0 ? std::clamp((target - cumulative[i]) / step, 0.0, 1.0) : 0.0);
    }
    at[numPoints - 1] = static_cast<double>(last);
    return at;
}

CurveMeasure measure(const PosteriorModel& model, const MatrixXd& eta) {
    const Eigen::Index N = eta.cols() - 1;
    if (N < 1)
        throw std::invalid_argument("measure: expected at least 2 points, got " + std::to_string(eta.cols()));
    const Moments m = model.moments(eta, PosteriorModel::Order::Covariance);
    const Variables& vars = model.variables();
    CurveMeasure out;
    out.mu = m.mu;
    out.nEff = m.nEff;
    if (m.nEff.size() && model.limitedBySamples())
        out.minNEff = m.nEff.minCoeff();
    auto sumOver = [&](Eigen::Index stride, VectorXd* lengths) {
        double sum = 0;
        for (Eigen::Index i = 0; i + stride <= N; i += stride) {
            const double square = (eta.col(i + stride) - eta.col(i)).dot(m.mu.col(i + stride) - m.mu.col(i));
            const double d = std::sqrt(std::max(0.0, square));
            sum += d;
            if (lengths != nullptr) {
                (*lengths)[i] = d;
                out.negativeEdges += square < 0;
            }
        }
        return sum;
    };
    out.d.resize(N);
    out.length = sumOver(1, &out.d);
    out.energy = 0.5 * N * out.d.squaredNorm();
    out.speedGap = out.length > 0 ? 2 * out.energy / (out.length * out.length) - 1 : 0;
    // The node sum overestimates the length by O(N^-2).
    out.lengthExtrapolated = N % 2 == 0 ? (4 * out.length - sumOver(2, nullptr)) / 3 : out.length;
    out.beta_F.resize(N + 1);
    double psi = 0;
    for (Eigen::Index i = 0; i <= N; i++) {
        if (m.psi.size())
            psi = m.psi[i];
        else if (i > 0)  // without psi: its line integral along the curve, d psi = mu · d eta
            psi += 0.5 * (m.mu.col(i) + m.mu.col(i - 1)).dot(eta.col(i) - eta.col(i - 1));
        out.beta_F[i] = eta.col(i).dot(m.mu.col(i)) - psi;
    }
    out.beta_F.array() -= out.beta_F[0];
    out.trCov.resize(N + 1);
    const int first = vars.hasQuadratic() ? 1 : 0;
    for (Eigen::Index i = 0; i <= N; i++) {
        out.asymmetry = std::max(out.asymmetry, (m.J[i] - m.J[i].transpose()).norm() / std::max((m.J[i] + m.J[i].transpose()).norm(), 1e-300));
        out.trCov[i] = m.J[i].diagonal().tail(vars.numStatistics() - first).sum();
    }
    return out;
}

MatrixXd straightLine(const Variables& v, const VectorXd& a, const VectorXd& b, double logSnr, int numPoints, const std::vector<int>& windings) {
    if (a.size() != v.size() || b.size() != v.size())
        throw std::invalid_argument("straightLine: expected end points of " + std::to_string(v.size()) + " values, got " + std::to_string(a.size()) + " and " +
                                    std::to_string(b.size()));
    if (numPoints < 2)
        throw std::invalid_argument("straightLine: expected at least 2 points, got " + std::to_string(numPoints));
    if (!windings.empty() && static_cast<int>(windings.size()) != v.size())
        throw std::invalid_argument("straightLine: expected one winding a variable, got " + std::to_string(windings.size()));
    VectorXd difference = b - a;
    for (int i = 0; i < v.size(); i++)
        if (v[i].lifted()) {
            const double turn = v[i].period;
            difference[i] = std::remainder(difference[i], turn) + (windings.empty() ? 0 : windings[i]) * turn;
        }
    MatrixXd eta(v.numStatistics(), numPoints);
    for (int k = 0; k < numPoints; k++)
        eta.col(k) = v.naturalParameter(a + difference * (static_cast<double>(k) / (numPoints - 1)), logSnr);
    return eta;
}

json Curve::toJson() const {
    const auto number = [](double x) { return std::isfinite(x) ? json(x) : json(nullptr); };
    json j = {{"format", "spacetime-curve"},   {"version", 1},
              {"variables", vars.toJson()},    {"temperature_K", temperature > 0 ? json(temperature) : json(nullptr)},
              {"schedule", schedule},          {"energy", number(energy)},
              {"length", number(length)},      {"length_extrapolated", number(lengthExtrapolated)},
              {"speed_gap", number(speedGap)}, {"residual", number(residual)}};
    json s = json::array(), etaRows = json::array(), logSnr = json::array(), x = json::array();
    const bool quadratic = vars.hasQuadratic();
    for (int i = 0; i < numPoints(); i++) {
        s.push_back(nodesS[i]);
        etaRows.push_back(std::vector<double>(nodesEta.col(i).data(), nodesEta.col(i).data() + nodesEta.rows()));
        // log-SNR and x exist only for unlifted variables at eta_l < 0; x = alpha * center is given for the schedule of the file.
        if (!quadratic || !(nodesEta(0, i) < 0)) {
            logSnr.push_back(nullptr);
            x.push_back(nullptr);
            continue;
        }
        const double l = std::log(-2 * nodesEta(0, i));
        logSnr.push_back(l);
        if (vars.numLifted() > 0)
            x.push_back(nullptr);
        else {
            const VectorXd point = nodesEta.col(i).tail(vars.size()) * (scheduleAlpha(schedule, l) * std::exp(-l));
            x.push_back(std::vector<double>(point.data(), point.data() + point.size()));
        }
    }
    if (!solution.empty())
        j["solution"] = parseJson(solution);
    j["s"] = s;
    j["eta"] = etaRows;
    j["log_snr"] = logSnr;
    j["x"] = x;
    return j;
}

Curve Curve::fromJson(const json& j) {
    try {
        if (!j.is_object() || j.value("format", "") != "spacetime-curve")
            throw std::invalid_argument("Curve: not a curve file: expected \"format\": \"spacetime-curve\"");
        const int version = wholeNumber<int>(j.at("version"));
        if (version != 1)
            throw std::invalid_argument("Curve: the file has version " + std::to_string(version) + ", this program reads version 1: upgrade openmm-spacetime");
        const auto s = j.at("s").get<std::vector<double>>();
        const auto rows = j.at("eta").get<std::vector<std::vector<double>>>();
        const Variables vars = Variables::fromJson(j.at("variables"));
        if (rows.size() != s.size())
            throw std::invalid_argument("Curve: expected as many rows of eta as values of s, got " + std::to_string(rows.size()) + " and " + std::to_string(s.size()));
        MatrixXd eta(vars.numStatistics(), rows.size());
        for (size_t i = 0; i < rows.size(); i++) {
            if (static_cast<int>(rows[i].size()) != vars.numStatistics())
                throw std::invalid_argument("Curve: row " + std::to_string(i) + " of eta has " + std::to_string(rows[i].size()) + " components, expected " +
                                            std::to_string(vars.numStatistics()));
            eta.col(i) = VectorXd::Map(rows[i].data(), rows[i].size());
        }
        Curve curve(vars, VectorXd::Map(s.data(), s.size()), eta);
        const auto number = [&](const char* key) { return j.contains(key) && j[key].is_number() ? j[key].get<double>() : nan(); };
        curve.temperature = j.contains("temperature_K") && j["temperature_K"].is_number() ? j["temperature_K"].get<double>() : 0;
        curve.schedule = j.value("schedule", "vp");
        curve.energy = number("energy");
        curve.length = number("length");
        curve.lengthExtrapolated = number("length_extrapolated");
        curve.speedGap = number("speed_gap");
        curve.residual = number("residual");
        if (j.contains("solution"))
            curve.solution = j["solution"].dump();
        return curve;
    }
    catch (const json::exception& e) {
        throw std::invalid_argument(std::string("Curve: not a curve file: ") + e.what());
    }
}

void Curve::save(const std::string& path, bool overwrite) const { writeFile(path, toJson().dump() + "\n", overwrite); }

Curve Curve::load(const std::string& path) {
    const std::string bytes = readFile(path);
    const json j = withPrefix("'" + path + "': not a curve file: ", [&] { return parseJson(bytes); });
    return withPrefix("'" + path + "': ", [&] { return fromJson(j); });
}

double scheduleAlpha(const std::string& schedule, double logSnr) {
    if (schedule == "vp" || schedule == "cosine")
        return std::sqrt(1 / (1 + std::exp(-logSnr)));
    if (schedule == "ve" || schedule == "edm")
        return 1;
    if (schedule == "flow")
        return 1 / (1 + std::exp(-0.5 * logSnr));
    throw std::invalid_argument("schedule: expected vp, cosine, ve (or edm) or flow, got '" + schedule + "'");
}

}  // namespace Spacetime
