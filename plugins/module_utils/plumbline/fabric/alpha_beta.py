"""The alpha-beta model of a sweep: a start-up time and a bandwidth.

``time = alpha + size / beta``, R. W. Hockney, "The communication challenge for MPP: Intel Paragon and Meiko CS-2",
Parallel Computing 20 (1994) 389-398, https://doi.org/10.1016/S0167-8191(06)80021-9. Thakur, Rabenseifner and Gropp,
"Optimization of Collective Communication Operations in MPICH", IJHPCA 19 (2005) 49-66, use it for collectives.

The fit minimises the sum of squared *relative* errors: sizes span ten powers of ten, and an absolute fit would see
the largest messages only. Real sweeps change protocol and algorithm on the way, so no pair of numbers fits them
everywhere: the residuals, which are part of the result, say how far to trust it.
"""

from __future__ import annotations

import statistics

LEAST_SIZES = 3  # two points always lie on a line, and their residual of zero would look like a proof


def _solve(points):
    """Return ``(alpha, slope)`` in µs and µs/byte; a parameter that would be negative is left out (0)."""
    # Weighted normal equations, weights 1 / time²: sizes are scaled so that both columns have the same magnitude.
    scale = max(size for size, _time in points)
    s0 = s1 = s2 = y0 = y1 = 0.0
    for size, time in points:
        x, weight = size / scale, 1 / (time * time)
        s0 += weight
        s1 += weight * x
        s2 += weight * x * x
        y0 += weight * time
        y1 += weight * x * time
    determinant = s0 * s2 - s1 * s1
    if determinant > 1e-15 * s0 * s2:
        alpha = (y0 * s2 - y1 * s1) / determinant
        slope = (s0 * y1 - s1 * y0) / determinant
        if alpha >= 0 and slope > 0:
            return alpha, slope / scale
        if slope > 0:
            return 0.0, y1 / s2 / scale
    return y0 / s0, 0.0


def fit(points):
    """Fit ``[(size in bytes, time in µs)]``; None with fewer than three different sizes that have a time.

    ``alpha_us`` is the start-up time, ``beta_gbps`` the bandwidth that large messages approach, in 10^9 bytes/s of
    message per time (algbw, not busbw), None where time does not grow with size. ``residual_rel_median`` and
    ``residual_rel_max`` are of ``|model - measured| / measured``; ``sizes_used`` counts the sizes.
    """
    used = [(float(size), float(time)) for size, time in points if size and time and size > 0 and time > 0]
    if len({size for size, _time in used}) < LEAST_SIZES:
        return None
    alpha, slope = _solve(used)
    if slope * max(size for size, _time in used) < 1e-9 * alpha:
        slope = 0.0  # what is left of constant times by rounding is no bandwidth
    residuals = [abs(alpha + slope * size - time) / time for size, time in used]
    return {
        "alpha_us": float(f"{alpha:.6g}"),
        "beta_gbps": float(f"{1 / (slope * 1000):.6g}") if slope > 0 else None,
        "residual_rel_median": round(statistics.median(residuals), 6),
        "residual_rel_max": round(max(residuals), 6),
        "sizes_used": len({size for size, _time in used}),
    }
