/** Owns the counters and gauges of the process: what they are called, and how they are rendered. */

import type { Counter, Gauge, Histogram } from 'prom-client'

/** Label values; keep them few: backend, outcome, kind, never a name that a user chooses freely. */
export type Labels = Readonly<Record<string, string>>

/** Records figures. Names are those of {@link METRICS}. */
export interface Meter {
  count(name: MetricName, labels?: Labels, by?: number): void
  /** Without a value the series of these labels disappears. */
  gauge(name: MetricName, value: number | undefined, labels?: Labels): void
  /** `seconds` goes into a histogram. */
  time(name: MetricName, seconds: number, labels?: Labels): void
}

interface MetricFacts {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly help: string
  readonly labels: readonly string[]
}

/** Every metric there is. `docs/operations.md` lists the same table; a test compares them. */
export const METRICS = {
  keyferry_mounts_total: { type: 'counter', help: 'Mount calls answered', labels: ['provider', 'outcome'] },
  keyferry_mount_seconds: { type: 'histogram', help: 'Time from call to answer', labels: ['provider'] },
  keyferry_mounts_running: { type: 'gauge', help: 'Mounts being worked on', labels: [] },
  keyferry_mounts_queued: { type: 'gauge', help: 'Mounts waiting for admission', labels: [] },
  keyferry_objects_total: {
    type: 'counter',
    help: 'Objects delivered or failed',
    labels: ['backend', 'outcome', 'from'],
  },
  keyferry_backend_calls_total: {
    type: 'counter',
    help: 'Batches sent to backends',
    labels: ['backend', 'outcome'],
  },
  keyferry_circuits_open: {
    type: 'gauge',
    help: 'Endpoints, each with one identity, that are not called because they kept failing',
    labels: ['backend'],
  },
  keyferry_circuit_events_total: {
    type: 'counter',
    help: 'Circuits opened, reopened by a failed probe, closed',
    labels: ['backend', 'event'],
  },
  keyferry_calls_withheld_total: {
    type: 'counter',
    help: 'Calls to backends that were not made: circuit-open, asked-to-wait, retry-budget',
    labels: ['backend', 'reason'],
  },
  keyferry_sessions_opened_total: {
    type: 'counter',
    help: 'Credentials or clients opened',
    labels: ['backend', 'outcome'],
  },
  keyferry_cache_bytes: { type: 'gauge', help: 'Secret bytes held in the value cache', labels: [] },
  keyferry_node_identity_total: {
    type: 'counter',
    help: "Fetches with the provider's own identity",
    labels: ['backend'],
  },
  keyferry_spc_addresses_total: {
    type: 'counter',
    help: 'Fetches from an address that the SecretProviderClass gave',
    labels: ['backend'],
  },
  keyferry_revoked_objects_total: {
    type: 'counter',
    help: 'Denied objects whose files a republish took away from running pods',
    labels: ['backend'],
  },
  keyferry_revoked_kept_total: {
    type: 'counter',
    help: 'Denied objects whose files stay in running pods',
    labels: ['backend'],
  },
  keyferry_policy_info: {
    type: 'gauge',
    help: '1; the labels name the policy in force',
    labels: ['hash', 'profile'],
  },
  keyferry_config_reloads_total: {
    type: 'counter',
    help: 'Changes of the configuration file that were read',
    labels: ['outcome'],
  },
  keyferry_config_not_in_force: {
    type: 'gauge',
    help: '1 when the configuration on disk is not, or not as a whole, the one in force',
    labels: [],
  },
  keyferry_leases: { type: 'gauge', help: 'Leases held for running pods', labels: ['backend'] },
  keyferry_lease_events_total: {
    type: 'counter',
    help: 'Leases issued, renewed, revoked, lost',
    labels: ['backend', 'event'],
  },
  keyferry_connections_refused_total: {
    type: 'counter',
    help: 'Connections closed for breaking the protocol',
    labels: ['reason'],
  },
  keyferry_identity_reload_failures_total: {
    type: 'counter',
    help: 'Failed reloads of key files',
    labels: ['backend'],
  },
  keyferry_swap_enabled: {
    type: 'gauge',
    help: '1 when the node swaps: tmpfs may reach the disk',
    labels: [],
  },
  keyferry_event_loop_lag_seconds: {
    type: 'gauge',
    help: 'Longest delay of the event loop since the last reading',
    labels: [],
  },
  outbound_rpc_count: {
    type: 'counter',
    help: "Calls to Google's APIs, under the name that Google's provider uses",
    labels: ['kind', 'status'],
  },
  outbound_rpc_latency: {
    type: 'histogram',
    help: "Seconds of calls to Google's APIs, under the name that Google's provider uses",
    labels: ['kind', 'status'],
  },
} as const satisfies Record<string, MetricFacts>

export type MetricName = keyof typeof METRICS

/** Records nothing: for a process whose admin address is off. */
export const silentMeter: Meter = { count: () => {}, gauge: () => {}, time: () => {} }

/** A meter that can be read. */
export interface ReadableMeter extends Meter {
  /** Prometheus text format. */
  text(): Promise<string>
}

/** A meter on prom-client, which is loaded only where somebody can read the figures. */
export async function createMeter(): Promise<ReadableMeter> {
  const { default: prom } = await import('prom-client')
  const registry = new prom.Registry()
  const counters = new Map<string, Counter>()
  const gauges = new Map<string, Gauge>()
  const histograms = new Map<string, Histogram>()
  for (const [name, { type, help, labels }] of Object.entries(METRICS)) {
    const options = { name, help, labelNames: [...labels], registers: [registry] }
    if (type === 'counter') counters.set(name, new prom.Counter(options))
    else if (type === 'gauge') gauges.set(name, new prom.Gauge(options))
    else
      histograms.set(
        name,
        new prom.Histogram({ ...options, buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60] }),
      )
  }
  return {
    count: (name, labels = {}, by = 1) => counters.get(name)?.inc(labels, by),
    gauge: (name, value, labels = {}) =>
      value === undefined ? gauges.get(name)?.remove(labels) : gauges.get(name)?.set(labels, value),
    time: (name, seconds, labels = {}) => histograms.get(name)?.observe(labels, seconds),
    text: () => registry.metrics(),
  }
}
