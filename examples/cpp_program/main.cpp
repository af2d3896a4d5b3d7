// SPDX-License-Identifier: MIT
// Turns the torsion of a butane-like chain from trans to gauche along a curve. Usage: butane [platform]
#include "OpenMM.h"
#include "openmmspacetime/SpacetimeForce.h"
#include <cmath>
#include <cstdio>
#include <vector>

int main(int argc, char** argv) try {
    const int numNodes = 13;
    const double pi = 3.14159265358979, temperature = 300, kappa = 100;

    // Four united atoms. The System owns the forces.
    OpenMM::System system;
    auto* bonds = new OpenMM::HarmonicBondForce();
    auto* angles = new OpenMM::HarmonicAngleForce();
    auto* torsions = new OpenMM::PeriodicTorsionForce();
    for (int i = 0; i < 4; i++)
        system.addParticle(15.0);
    for (int i = 0; i < 3; i++)
        bonds->addBond(i, i + 1, 0.153, 2e5);
    for (int i = 0; i < 2; i++)
        angles->addAngle(i, i + 1, i + 2, 1.95, 520.0);
    torsions->addTorsion(0, 1, 2, 3, 3, 0.0, 6.0);

    // Nodes kappa (cos phi0, sin phi0): wells -kT kappa cos(phi - phi0) whose centre phi0 goes from 180 to 60 degrees.
    std::vector<double> s, eta;
    for (int i = 0; i < numNodes; i++) {
        s.push_back(i / (numNodes - 1.0));
        const double phi0 = pi - 2 * pi / 3 * s.back();
        eta.insert(eta.end(), {kappa * std::cos(phi0), kappa * std::sin(phi0)});
    }
    auto* bias = new SpacetimePlugin::SpacetimeForce(s, eta, temperature);
    bias->addTorsion(0, 1, 2, 3, "phi");
    for (OpenMM::Force* force : std::vector<OpenMM::Force*>{bonds, angles, torsions, bias})
        system.addForce(force);

    // A C++ program loads no platforms by itself: OpenMM's CPU platform and the plugin's kernels come from this folder.
    OpenMM::Platform::loadPluginsFromDirectory(PLUGIN_DIR);
    OpenMM::LangevinMiddleIntegrator integrator(temperature, 5.0, 0.001);
    integrator.setRandomNumberSeed(1);
    OpenMM::Context context(system, integrator, OpenMM::Platform::getPlatform(argc > 1 ? argv[1] : "Reference"));
    context.setPositions({{0.0, 0.142, 0.0}, {0.057, 0.0, 0.0}, {0.21, 0.0, 0.0}, {0.267, -0.142, 0.0}});
    context.setVelocitiesToTemperature(temperature, 1);
    std::printf("%8s %14s %16s\n", "s", "phi (degrees)", "bias (kJ/mol)");
    const int movesPerNode = 10, numMoves = movesPerNode * (numNodes - 1);
    for (int move = 0; move <= numMoves; move++) {
        context.setParameter(bias->getParameterName(), move / static_cast<double>(numMoves));
        integrator.step(200);
        if (move % movesPerNode == 0)
            std::printf("%8.4f %14.4f %16.4f\n", context.getParameter(bias->getParameterName()), 180 / pi * bias->getVariableValues(context)[0], bias->getBiasEnergy(context));
    }
    return 0;
}
catch (const std::exception& e) {
    std::fprintf(stderr, "butane: %s\n", e.what());
    return 1;
}
