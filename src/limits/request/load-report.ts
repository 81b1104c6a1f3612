/**
 * Limits that follow the load of the service that they protect. One factor scales all limits of a policy. Once a second
 * it changes by additive increase and multiplicative decrease, as TCP controls its congestion window (Jacobson,
 * "Congestion Avoidance and Control", SIGCOMM 1988; RFC 5681). Among linear controls, this one converges to a fair and
 * efficient point (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in
 * Computer Networks", 1989). Here all clients have the same factor, so the control is fair anyway.
 *
 * TCP learns only that there is congestion, and halves. A load also shows how much congestion there is. So the decrease
 * depends on the overload, as in DCTCP (RFC 8257), and both steps shrink near the target. Halving at the target would
 * oscillate around it.
 */

/** The report of a protected service about its load. */
export interface LoadReport {
  /** 0: idle, 1: fully loaded. */
  readonly load?: number;
  /** Any latency of the service, such as the 95th percentile. */
  readonly latencyMs?: number;
  /** The share of requests that failed, 0 to 1. */
  readonly errors?: number;
}
