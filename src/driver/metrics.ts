/** Owns what an operator sees of the driver: counters, events and log lines (driver.md sections 3, 7). */

export type MetricName =
  | 'node_publish_total'
  | 'node_publish_error_total'
  | 'node_unpublish_total'
  | 'node_unpublish_error_total'
  | 'rotation_reconcile_total'
  | 'rotation_reconcile_error_total'

export type Labels = Readonly<Partial<Record<'provider' | 'error_type' | 'rotated', string>>>

/** Counters with the driver's names and labels; `os_type` is always `linux`. */
export interface Metrics {
  add(name: MetricName, labels?: Labels): void
  /** The sum over all series that carry these labels; 0 if there is none. */
  value(name: MetricName, labels?: Labels): number
  /** The text format, one line a series; a series appears with its first increment. */
  text(): string
}

/** No counter yet. */
export function emptyMetrics(): Metrics {
  const series = new Map<string, { readonly name: MetricName; readonly labels: Labels; count: number }>()
  return {
    add(name, labels = {}) {
      const key = line(name, labels)
      const found = series.get(key)
      if (found === undefined) series.set(key, { name, labels, count: 1 })
      else found.count++
    },
    value(name, labels = {}) {
      let sum = 0
      for (const one of series.values()) {
        const wanted = Object.entries(labels).every(
          ([key, value]) => one.labels[key as keyof Labels] === value,
        )
        if (one.name === name && wanted) sum += one.count
      }
      return sum
    },
    text: () => [...series].map(([key, { count }]) => `${key} ${count}\n`).join(''),
  }
}

function line(name: MetricName, labels: Labels): string {
  const all = Object.entries({ ...labels, os_type: 'linux' }).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${name}{${all.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}}`
}

/** An event on a pod. Equal ones are one object with a growing count. */
export interface PodEvent {
  readonly pod: string
  readonly type: 'Normal' | 'Warning'
  readonly reason: 'FailedMount' | 'MountRotationComplete' | 'MountRotationFailed'
  readonly message: string
  readonly count: number
}

export interface Events {
  /** `pod` is `namespace/name`. */
  add(event: Omit<PodEvent, 'count'>): void
  /** In order of first appearance. */
  list(): readonly PodEvent[]
}

/** No event yet. */
export function emptyEvents(): Events {
  const events = new Map<string, PodEvent>()
  return {
    add(event) {
      const key = JSON.stringify([event.pod, event.reason, event.message])
      events.set(key, { ...event, count: (events.get(key)?.count ?? 0) + 1 })
    },
    list: () => [...events.values()],
  }
}
