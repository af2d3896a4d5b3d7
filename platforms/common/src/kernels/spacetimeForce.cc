/* SPDX-License-Identifier: MIT */
/*
 * SpacetimeForce in the dialect that OpenMM translates for CUDA, OpenCL and HIP.
 *
 * Every kernel loops over (walker, thing) pairs, walker by walker. An entry is a particle: its index in device order, and how many box vectors have to be
 * taken off its wrapped position. Sites are numbered as in VariableSet: single particles first, then centroids.
 *
 * The step: computeCentroids and computeFrames where there are any, computeVariables, and applyFrameForces and applyCentroidForces, which pass on
 * what the variables left to frames and centroids. evaluateCurve runs when s has moved.
 */

#define BOX_ARGS real4 periodicBoxSize, real4 invPeriodicBoxSize, real4 periodicBoxVecX, real4 periodicBoxVecY, real4 periodicBoxVecZ
#define BOX periodicBoxSize, invPeriodicBoxSize, periodicBoxVecX, periodicBoxVecY, periodicBoxVecZ

/* Of each walker's frame: center (3), rotation by rows (9), inverse of A (9). */
#define FRAME_SIZE 21
/* What variables leave to a frame: force (3), torque (3). */
#define FRAME_FORCE_SIZE 6

#define TORSION 0
#define COORDINATE 1
#define ANGLE 2
#define DISTANCE 3
#define POSITION 4

#define INCLUDE_FORCES 1
#define INCLUDE_ENERGY 2
#define INCLUDE_DERIVATIVES 4
#define INCLUDE_VALUES 8

/* Squared sines of bond angles below COLLINEAR make cross products rounding error, determinants below DEGENERATE rotations. */
#ifdef USE_DOUBLE_PRECISION
#define COLLINEAR ((real) 1e-20)
#define DEGENERATE ((real) 1e-14)
#define CONVERGED ((real) 1e-33)
#else
#define COLLINEAR ((real) 1e-11)
#define DEGENERATE ((real) 1e-6)
#define CONVERGED ((real) 1e-15)
#endif

DEVICE real3 loadParticle(int4 entry, GLOBAL const real4* RESTRICT posq, BOX_ARGS) {
    real3 p = trimTo3(posq[entry.x]);
    if (entry.y != 0 || entry.z != 0 || entry.w != 0)
        p = p-((real) entry.y)*trimTo3(periodicBoxVecX)-((real) entry.z)*trimTo3(periodicBoxVecY)-((real) entry.w)*trimTo3(periodicBoxVecZ);
    return p;
}

/* `entries` and `centroids` are those of the walker. */
DEVICE real3 loadSite(int site, int numSingleSites, GLOBAL const int4* RESTRICT entries, GLOBAL const real4* RESTRICT centroids,
        GLOBAL const real4* RESTRICT posq, BOX_ARGS) {
    if (site < numSingleSites)
        return loadParticle(entries[site], posq, BOX);
    return trimTo3(centroids[site-numSingleSites]);
}

DEVICE void addForce(real3 force, int index, int stride, GLOBAL mm_ulong* RESTRICT buffer) {
    ATOMIC_ADD(&buffer[index], (mm_ulong) realToFixedPoint(force.x));
    ATOMIC_ADD(&buffer[index+stride], (mm_ulong) realToFixedPoint(force.y));
    ATOMIC_ADD(&buffer[index+2*stride], (mm_ulong) realToFixedPoint(force.z));
}

DEVICE void addSiteForce(real3 force, int site, int numSingleSites, GLOBAL const int4* RESTRICT entries, int firstCentroid, int centroidStride,
        GLOBAL mm_ulong* RESTRICT centroidForces, GLOBAL mm_ulong* RESTRICT forceBuffers) {
    if (site < numSingleSites)
        addForce(force, entries[site].x, PADDED_NUM_ATOMS, forceBuffers);
    else
        addForce(force, firstCentroid+site-numSingleSites, centroidStride, centroidForces);
}

DEVICE real3 loadFixedPoint(GLOBAL const mm_ulong* RESTRICT buffer, int index, int stride) {
    const real scale = 1/(real) 0x100000000;
    return make_real3(scale*(mm_long) buffer[index], scale*(mm_long) buffer[index+stride], scale*(mm_long) buffer[index+2*stride]);
}

DEVICE real3 nearestImage(real3 delta, BOX_ARGS) {
#ifdef USE_PERIODIC
    APPLY_PERIODIC_TO_DELTA(delta)
#endif
    return delta;
}

/* Sum over the threads of a group; every thread gets it. */
DEVICE real3 reduceSum(real3 value, LOCAL_ARG real* temp) {
    SYNC_THREADS;
    temp[3*LOCAL_ID] = value.x;
    temp[3*LOCAL_ID+1] = value.y;
    temp[3*LOCAL_ID+2] = value.z;
    for (int step = 1; step < LOCAL_SIZE; step *= 2) {
        SYNC_THREADS;
        if (LOCAL_ID%(2*step) == 0 && LOCAL_ID+step < LOCAL_SIZE)
            for (int i = 0; i < 3; i++)
                temp[3*LOCAL_ID+i] += temp[3*(LOCAL_ID+step)+i];
    }
    SYNC_THREADS;
    real3 sum = make_real3(temp[0], temp[1], temp[2]);
    SYNC_THREADS;
    return sum;
}

/**
 * eta(s) and d eta/ds of every walker, by the monotone cubic of the curve.
 */
KERNEL void evaluateCurve(real s, int numNodes, int numComponents, int numWalkers, GLOBAL const real* RESTRICT nodes, GLOBAL const real* RESTRICT values,
        GLOBAL const real* RESTRICT slopes, GLOBAL const real2* RESTRICT walkers, GLOBAL real* RESTRICT eta, GLOBAL real* RESTRICT etaDerivative) {
    for (int index = GLOBAL_ID; index < numWalkers*numComponents; index += GLOBAL_SIZE) {
        int component = index%numComponents;
        real2 walker = walkers[index/numComponents];
        real position = walker.x+walker.y*s;
        real clamped = min((real) 1, max((real) 0, position));
        int low = 0, high = numNodes-1;
        while (high-low > 1) {
            int middle = (low+high)/2;
            if (nodes[middle] <= clamped)
                low = middle;
            else
                high = middle;
        }
        real h = nodes[high]-nodes[low], t = (clamped-nodes[low])/h, t2 = t*t, t3 = t2*t;
        real y0 = values[low*numComponents+component], y1 = values[high*numComponents+component];
        real m0 = slopes[low*numComponents+component], m1 = slopes[high*numComponents+component];
        eta[index] = y0+(3*t2-2*t3)*(y1-y0)+h*((t3-2*t2+t)*m0+(t3-t2)*m1);
        real derivative = 6*(t-t2)/h*(y1-y0)+(3*t2-4*t+1)*m0+(3*t2-2*t)*m1;
        etaDerivative[index] = (position == clamped ? walker.y*derivative : 0);
    }
}

/**
 * Centroids, one group of threads each. Clears what will be added to them.
 */
KERNEL void computeCentroids(int numWalkers, int numCentroids, int numEntries, GLOBAL const int4* RESTRICT entries, GLOBAL const int2* RESTRICT ranges,
        GLOBAL const real* RESTRICT weights, GLOBAL real4* RESTRICT centroids, GLOBAL mm_ulong* RESTRICT centroidForces,
        GLOBAL const real4* RESTRICT posq, BOX_ARGS) {
    LOCAL real temp[3*THREAD_BLOCK_SIZE];
    int total = numWalkers*numCentroids;
    for (int index = GROUP_ID; index < total; index += NUM_GROUPS) {
        int2 range = ranges[index%numCentroids];
        GLOBAL const int4* walkerEntries = &entries[(index/numCentroids)*numEntries];
        /* Relative to the first member, so that little is lost far from the origin. */
        real3 first = loadParticle(walkerEntries[range.x], posq, BOX);
        real3 sum = make_real3(0);
        for (int i = range.x+LOCAL_ID; i < range.y; i += LOCAL_SIZE)
            sum += weights[i]*(loadParticle(walkerEntries[i], posq, BOX)-first);
        sum = first+reduceSum(sum, temp);
        if (LOCAL_ID == 0) {
            centroids[index] = make_real4(sum.x, sum.y, sum.z, 0);
            for (int i = 0; i < 3; i++)
                centroidForces[index+i*total] = 0;
        }
    }
}

/**
 * The unit quaternion of the largest eigenvalue of a symmetric 4x4 matrix, by Jacobi rotations.
 */
DEVICE void leadingEigenvector(real N[4][4], real q[4]) {
    real V[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            V[i][j] = (i == j);
    for (int sweep = 0; sweep < 20; sweep++) {
        real rest = 0, norm = 0;
        for (int i = 0; i < 4; i++) {
            norm += N[i][i]*N[i][i];
            for (int j = 0; j < i; j++)
                rest += N[i][j]*N[i][j];
        }
        if (rest <= CONVERGED*norm)
            break;
        for (int i = 0; i < 3; i++)
            for (int j = i+1; j < 4; j++) {
                real off = N[i][j];
                if (off == 0)
                    continue;
                real theta = (N[j][j]-N[i][i])/(2*off);
                real t = (theta >= 0 ? 1 : -1)/(fabs(theta)+SQRT(theta*theta+1));
                real c = RSQRT(t*t+1), s = t*c;
                for (int k = 0; k < 4; k++) {
                    real a = N[k][i], b = N[k][j];
                    N[k][i] = c*a-s*b;
                    N[k][j] = s*a+c*b;
                }
                for (int k = 0; k < 4; k++) {
                    real a = N[i][k], b = N[j][k];
                    N[i][k] = c*a-s*b;
                    N[j][k] = s*a+c*b;
                }
                for (int k = 0; k < 4; k++) {
                    real a = V[k][i], b = V[k][j];
                    V[k][i] = c*a-s*b;
                    V[k][j] = s*a+c*b;
                }
            }
    }
    int best = 0;
    for (int i = 1; i < 4; i++)
        if (N[i][i] > N[best][best])
            best = i;
    real norm = 0;
    for (int i = 0; i < 4; i++)
        norm += V[i][best]*V[i][best];
    norm = RSQRT(norm);
    for (int i = 0; i < 4; i++)
        q[i] = norm*V[i][best];
}

/**
 * Superposes frames on their references, one group of threads each. Clears what will be added to them.
 *
 * The rotation comes from the leading eigenvector of a 4x4 matrix of S = sum w x y^T (Horn, J. Opt. Soc. Am. A 4, 629 (1987)). A = tr(RS)-RS links the torque on
 * the frame to the rotation that answers a displacement.
 */
KERNEL void computeFrames(int numWalkers, int numFrames, int numEntries, int numCentroids, int numSingleSites, GLOBAL const int4* RESTRICT entries,
        GLOBAL const real4* RESTRICT centroids, GLOBAL const int2* RESTRICT ranges, GLOBAL const int* RESTRICT sites, GLOBAL const real4* RESTRICT reference,
        GLOBAL real* RESTRICT frames, GLOBAL mm_ulong* RESTRICT frameForces, GLOBAL const real4* RESTRICT posq, BOX_ARGS) {
    LOCAL real temp[3*THREAD_BLOCK_SIZE];
    for (int index = GROUP_ID; index < numWalkers*numFrames; index += NUM_GROUPS) {
        int2 range = ranges[index%numFrames];
        int walker = index/numFrames;
        GLOBAL const int4* walkerEntries = &entries[walker*numEntries];
        GLOBAL const real4* walkerCentroids = &centroids[walker*numCentroids];
        real3 first = loadSite(sites[range.x], numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
        real3 center = make_real3(0);
        for (int i = range.x+LOCAL_ID; i < range.y; i += LOCAL_SIZE)
            center += reference[i].w*(loadSite(sites[i], numSingleSites, walkerEntries, walkerCentroids, posq, BOX)-first);
        center = first+reduceSum(center, temp);
        real3 column[3];
        for (int k = 0; k < 3; k++)
            column[k] = make_real3(0);
        for (int i = range.x+LOCAL_ID; i < range.y; i += LOCAL_SIZE) {
            real4 y = reference[i];
            real3 x = y.w*(loadSite(sites[i], numSingleSites, walkerEntries, walkerCentroids, posq, BOX)-center);
            column[0] += x*y.x;
            column[1] += x*y.y;
            column[2] += x*y.z;
        }
        for (int k = 0; k < 3; k++)
            column[k] = reduceSum(column[k], temp);
        if (LOCAL_ID == 0) {
            real S[3][3];
            for (int k = 0; k < 3; k++) {
                S[0][k] = column[k].x;
                S[1][k] = column[k].y;
                S[2][k] = column[k].z;
            }
            real trace = S[0][0]+S[1][1]+S[2][2];
            real N[4][4];
            N[0][0] = trace;
            for (int a = 0; a < 3; a++) {
                int b = (a+1)%3, c = (a+2)%3;
                N[0][a+1] = N[a+1][0] = S[b][c]-S[c][b];
                N[a+1][a+1] = 2*S[a][a]-trace;
                N[a+1][b+1] = N[b+1][a+1] = S[a][b]+S[b][a];
            }
            real q[4];
            leadingEigenvector(N, q);
            real R[3][3];
            for (int a = 0; a < 3; a++) {
                int b = (a+1)%3, c = (a+2)%3;
                R[a][a] = 1-2*(q[b+1]*q[b+1]+q[c+1]*q[c+1]);
                R[a][b] = 2*(q[a+1]*q[b+1]-q[0]*q[c+1]);
                R[b][a] = 2*(q[a+1]*q[b+1]+q[0]*q[c+1]);
            }
            real A[3][3];
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++)
                    A[a][b] = -(R[a][0]*S[0][b]+R[a][1]*S[1][b]+R[a][2]*S[2][b]);
            trace = -(A[0][0]+A[1][1]+A[2][2]);
            real norm = 0;
            for (int a = 0; a < 3; a++) {
                A[a][a] += trace;
                for (int b = 0; b < a; b++)
                    A[a][b] = A[b][a] = (real) 0.5*(A[a][b]+A[b][a]);
            }
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++)
                    norm += A[a][b]*A[a][b];
            norm = SQRT(norm);
            real cofactor[3][3];
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) {
                    int a1 = (a+1)%3, a2 = (a+2)%3, b1 = (b+1)%3, b2 = (b+2)%3;
                    cofactor[a][b] = A[a1][b1]*A[a2][b2]-A[a1][b2]*A[a2][b1];
                }
            real determinant = A[0][0]*cofactor[0][0]+A[0][1]*cofactor[0][1]+A[0][2]*cofactor[0][2];
            /* Where two rotations superpose equally well the torque has no answer: the frame then moves without turning. */
            real inverse = (fabs(determinant) <= DEGENERATE*norm*norm*norm ? 0 : 1/determinant);
            GLOBAL real* frame = &frames[index*FRAME_SIZE];
            frame[0] = center.x;
            frame[1] = center.y;
            frame[2] = center.z;
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) {
                    frame[3+3*a+b] = R[a][b];
                    frame[12+3*a+b] = inverse*cofactor[b][a];
                }
            for (int i = 0; i < FRAME_FORCE_SIZE; i++)
                frameForces[index*FRAME_FORCE_SIZE+i] = 0;
        }
        SYNC_THREADS;
    }
}

DEVICE real3 rotate(GLOBAL const real* RESTRICT m, real3 v) {
    return make_real3(m[0]*v.x+m[1]*v.y+m[2]*v.z, m[3]*v.x+m[4]*v.y+m[5]*v.z, m[6]*v.x+m[7]*v.y+m[8]*v.z);
}

DEVICE real3 rotateBack(GLOBAL const real* RESTRICT m, real3 v) {
    return make_real3(m[0]*v.x+m[3]*v.y+m[6]*v.z, m[1]*v.x+m[4]*v.y+m[7]*v.z, m[2]*v.x+m[5]*v.y+m[8]*v.z);
}

DEVICE real component(real3 v, int axis) {
    return axis == 0 ? v.x : (axis == 1 ? v.y : v.z);
}

/**
 * Variables, one thread each: their share of the energy -kT eta·T, of its derivatives with respect to s and kT, their forces, their raw values.
 *
 * types: type, component of T, axis, frame (-1-frame where a position's site belongs to its frame). scales: shift, 1/scale, 2 pi/period or 0 where not periodic,
 * period or, for a position, the center of the reference along the axis.
 */
KERNEL void computeVariables(int include, real kT, int numWalkers, int numVariables, int numComponents, int numEntries, int numCentroids, int numFrames,
        int numSingleSites, GLOBAL const int4* RESTRICT types, GLOBAL const int4* RESTRICT sites, GLOBAL const real4* RESTRICT scales,
        GLOBAL const int4* RESTRICT entries, GLOBAL const real4* RESTRICT centroids, GLOBAL const real* RESTRICT frames, GLOBAL const real* RESTRICT eta,
        GLOBAL const real* RESTRICT etaDerivative, GLOBAL real* RESTRICT values, GLOBAL mm_ulong* RESTRICT centroidForces,
        GLOBAL mm_ulong* RESTRICT frameForces, GLOBAL mm_ulong* RESTRICT forceBuffers, GLOBAL mixed* RESTRICT energyBuffer,
        GLOBAL mixed* RESTRICT derivatives, int numDerivatives, int sIndex, int kTIndex, GLOBAL const real4* RESTRICT posq, BOX_ARGS) {
    mixed energy = 0, sDerivative = 0;
    for (int index = GLOBAL_ID; index < numWalkers*numVariables; index += GLOBAL_SIZE) {
        int walker = index/numVariables, variable = index%numVariables;
        GLOBAL const int4* walkerEntries = &entries[walker*numEntries];
        GLOBAL const real4* walkerCentroids = &centroids[walker*numCentroids];
        GLOBAL const real* walkerEta = &eta[walker*numComponents];
        GLOBAL const real* walkerDerivative = &etaDerivative[walker*numComponents];
        int4 type = types[variable], site = sites[variable];
        real4 scale = scales[variable];
        real3 p1 = loadSite(site.x, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
        real value = 0;

        /* First the geometry: the raw value of what enters as a number, cosine and sine of what is lifted. */

        real cosine = 1, sine = 0;
        real3 a = make_real3(0), b = a, c = a, n1 = a, n2 = a;
        real n11 = 0, n22 = 0, b22 = 0;
        bool isDefined = true;
        GLOBAL const real* frame = frames;
        int frameIndex = 0;
        if (type.x == TORSION) {
            real3 p2 = loadSite(site.y, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            real3 p3 = loadSite(site.z, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            real3 p4 = loadSite(site.w, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            a = nearestImage(p2-p1, BOX);
            b = nearestImage(p3-p2, BOX);
            c = nearestImage(p4-p3, BOX);
            n1 = cross(a, b);
            n2 = cross(b, c);
            n11 = dot(n1, n1);
            n22 = dot(n2, n2);
            b22 = dot(b, b);
            isDefined = (n11 > COLLINEAR*b22*dot(a, a) && n22 > COLLINEAR*b22*dot(c, c));
            real x = dot(n1, n2), y = dot(a, n2)*SQRT(b22);
            real norm = x*x+y*y;
            if (norm > 0) {
                norm = RSQRT(norm);
                cosine = x*norm;
                sine = y*norm;
            }
            /* Not of -0: the value is never -pi. */
            if ((include&INCLUDE_VALUES) != 0)
                value = atan2(y == 0 ? (real) 0 : y, x);
        }
        else if (type.x == ANGLE) {
            real3 p2 = loadSite(site.y, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            real3 p3 = loadSite(site.z, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            a = nearestImage(p1-p2, BOX);
            b = nearestImage(p3-p2, BOX);
            n1 = cross(a, b);
            n11 = dot(n1, n1);
            isDefined = (n11 > COLLINEAR*dot(a, a)*dot(b, b));
            value = atan2(SQRT(n11), dot(a, b));
        }
        else if (type.x == DISTANCE) {
            real3 p2 = loadSite(site.y, numSingleSites, walkerEntries, walkerCentroids, posq, BOX);
            a = nearestImage(p2-p1, BOX);
            value = SQRT(dot(a, a));
            isDefined = (value > 0);
        }
        else if (type.x == POSITION) {
            bool isInFrame = (type.w < 0);
            frameIndex = walker*numFrames+(isInFrame ? -1-type.w : type.w);
            frame = &frames[frameIndex*FRAME_SIZE];
            a = p1-make_real3(frame[0], frame[1], frame[2]);
            if (!isInFrame)
                a = nearestImage(a, BOX);
            a = rotate(&frame[3], a);
            value = component(a, type.z)+scale.w;
        }
        else {
            value = component(p1, type.z);
            if (scale.z > 0) {
                cosine = COS(scale.z*value);
                sine = SIN(scale.z*value);
                value -= scale.w*floor(value/scale.w+(real) 0.5);
                if (value == -(real) 0.5*scale.w)
                    value = -value;
            }
        }
        if ((include&INCLUDE_VALUES) != 0)
            values[index] = value;

        /* Then the bias, and the force along the raw value. */

        real force;
        if (scale.z > 0) {
            real etaC = walkerEta[type.y], etaS = walkerEta[type.y+1];
            energy += etaC*cosine+etaS*sine;
            sDerivative += walkerDerivative[type.y]*cosine+walkerDerivative[type.y+1]*sine;
            force = kT*scale.z*(etaS*cosine-etaC*sine);
        }
        else {
            real d = (value-scale.x)*scale.y;
            energy += (walkerEta[0]*d+walkerEta[type.y])*d;
            sDerivative += (walkerDerivative[0]*d+walkerDerivative[type.y])*d;
            force = kT*(2*walkerEta[0]*d+walkerEta[type.y])*scale.y;
        }
        if ((include&INCLUDE_FORCES) == 0 || !isDefined)
            continue;

        /* At last the forces on the sites. */

        int firstCentroid = walker*numCentroids, centroidStride = numWalkers*numCentroids;
#define ADD_FORCE(f, s) addSiteForce(f, s, numSingleSites, walkerEntries, firstCentroid, centroidStride, centroidForces, forceBuffers)
        if (type.x == TORSION) {
            real length = SQRT(b22);
            real3 f1 = n1*(-force*length/n11), f4 = n2*(force*length/n22);
            real3 shared = f4*(dot(c, b)/b22)-f1*(dot(a, b)/b22);
            ADD_FORCE(f1, site.x);
            ADD_FORCE(shared-f1, site.y);
            ADD_FORCE(make_real3(0)-shared-f4, site.z);
            ADD_FORCE(f4, site.w);
        }
        else if (type.x == ANGLE) {
            real length = SQRT(n11);
            real3 f1 = cross(a, n1)*(force/(dot(a, a)*length)), f3 = cross(n1, b)*(force/(dot(b, b)*length));
            ADD_FORCE(f1, site.x);
            ADD_FORCE(make_real3(0)-f1-f3, site.y);
            ADD_FORCE(f3, site.z);
        }
        else if (type.x == DISTANCE) {
            real3 f = a*(force/value);
            ADD_FORCE(make_real3(0)-f, site.x);
            ADD_FORCE(f, site.y);
        }
        else {
            real3 f = make_real3(type.z == 0 ? force : 0, type.z == 1 ? force : 0, type.z == 2 ? force : 0);
            if (type.x == POSITION) {
                real3 torque = cross(a, f);
                addForce(f, frameIndex*FRAME_FORCE_SIZE, 1, frameForces);
                addForce(torque, frameIndex*FRAME_FORCE_SIZE+3, 1, frameForces);
                f = rotateBack(&frame[3], f);
            }
            ADD_FORCE(f, site.x);
        }
    }
    if ((include&INCLUDE_ENERGY) != 0)
        energyBuffer[GLOBAL_ID] -= kT*energy;
    if ((include&INCLUDE_DERIVATIVES) != 0) {
        derivatives[GLOBAL_ID*numDerivatives+sIndex] -= kT*sDerivative;
        derivatives[GLOBAL_ID*numDerivatives+kTIndex] -= energy;
    }
}

/**
 * Passes the forces and torques on frames to their sites, one group of threads each.
 *
 * A position moves with the frame's center, and with the rotation omega = A^-1 sum w (R dx) x y that keeps the superposition optimal.
 */
KERNEL void applyFrameForces(int numWalkers, int numFrames, int numEntries, int numCentroids, int numSingleSites, GLOBAL const int4* RESTRICT entries,
        GLOBAL const int2* RESTRICT ranges, GLOBAL const int* RESTRICT sites, GLOBAL const real4* RESTRICT reference, GLOBAL const real* RESTRICT frames,
        GLOBAL const mm_ulong* RESTRICT frameForces, GLOBAL mm_ulong* RESTRICT centroidForces, GLOBAL mm_ulong* RESTRICT forceBuffers) {
    for (int index = GROUP_ID; index < numWalkers*numFrames; index += NUM_GROUPS) {
        int2 range = ranges[index%numFrames];
        int walker = index/numFrames;
        GLOBAL const real* frame = &frames[index*FRAME_SIZE];
        real3 force = loadFixedPoint(frameForces, index*FRAME_FORCE_SIZE, 1);
        real3 lambda = rotate(&frame[12], loadFixedPoint(frameForces, index*FRAME_FORCE_SIZE+3, 1));
        GLOBAL const int4* walkerEntries = &entries[walker*numEntries];
        int firstCentroid = walker*numCentroids, centroidStride = numWalkers*numCentroids;
        for (int i = range.x+LOCAL_ID; i < range.y; i += LOCAL_SIZE) {
            real4 y = reference[i];
            real3 f = y.w*rotateBack(&frame[3], cross(trimTo3(y), lambda)-force);
            ADD_FORCE(f, sites[i]);
        }
    }
}

/**
 * Passes the forces on centroids to their members, one thread each.
 */
KERNEL void applyCentroidForces(int numWalkers, int numCentroids, int numEntries, int numSingleSites, GLOBAL const int4* RESTRICT entries,
        GLOBAL const int* RESTRICT centroidOfEntry, GLOBAL const real* RESTRICT weights, GLOBAL const mm_ulong* RESTRICT centroidForces,
        GLOBAL mm_ulong* RESTRICT forceBuffers) {
    int numMembers = numEntries-numSingleSites;
    for (int index = GLOBAL_ID; index < numWalkers*numMembers; index += GLOBAL_SIZE) {
        int walker = index/numMembers, entry = numSingleSites+index%numMembers;
        real3 force = loadFixedPoint(centroidForces, walker*numCentroids+centroidOfEntry[entry], numWalkers*numCentroids);
        addForce(weights[entry]*force, entries[walker*numEntries+entry].x, PADDED_NUM_ATOMS, forceBuffers);
    }
}
