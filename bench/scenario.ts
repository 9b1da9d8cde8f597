/** Owns what a benchmark is: a named scenario that measures and gives rows of figures beside their targets. */

/** A bound a figure is held to. */
export type Target = { readonly atMost: number } | { readonly atLeast: number }

/** One figure. */
export interface Figure {
  /** What was measured, as a reader of the design's table would say it. */
  readonly what: string
  readonly value: number
  /** `ms`, `MiB`, `/s`, `calls` …; empty for a bare count. */
  readonly unit: string
  /** Absent: the figure is shown for what it tells, and judged by nobody. */
  readonly target?: Target
  /** What else there is to know: spread, circumstances. */
  readonly note?: string
  /** Figures of the vendors' own providers on the same work, by vendor (design.md section 7). */
  readonly others?: Readonly<Record<string, string>>
}

export type Verdict = 'met' | 'missed' | 'shown'

/** A figure and how it stands to its target. */
export interface Row extends Figure {
  readonly toReach: string
  readonly measured: string
  readonly verdict: Verdict
  /** How far from the target, in percent of it; positive is better. Absent without a target. */
  readonly marginPercent?: number
}

export interface BenchContext {
  /** Fewer repetitions: to see that it works, not to judge. */
  readonly quick: boolean
  /** Says what is being done now. */
  readonly progress: (text: string) => void
  /** A directory for this scenario, removed afterwards. */
  readonly directory: string
  /** A directory for pictures, which stay. */
  readonly plots: string
}

export interface Scenario {
  /** For `--only`. */
  readonly name: string
  readonly title: string
  /** Measures. @throws when it could not run, or when an answer was wrong. */
  readonly run: (context: BenchContext) => Promise<readonly Row[]>
}

/** Judges a figure. */
export function row(figure: Figure): Row {
  const measured = withUnit(figure.value, figure.unit)
  const { target } = figure
  if (target === undefined) return { ...figure, toReach: '', measured, verdict: 'shown' }
  const isUpper = 'atMost' in target
  const bound = isUpper ? target.atMost : target.atLeast
  const isMet = isUpper ? figure.value <= bound : figure.value >= bound
  const distance = isUpper ? bound - figure.value : figure.value - bound
  return {
    ...figure,
    toReach: `${isUpper ? '≤' : '≥'} ${withUnit(bound, figure.unit)}`,
    measured,
    verdict: isMet ? 'met' : 'missed',
    ...(bound === 0 ? {} : { marginPercent: Math.round((distance / bound) * 100) }),
  }
}

/** A figure with three significant digits at most after which nobody should look. */
export function withUnit(value: number, unit: string): string {
  const text = Math.abs(value) >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString()
  return unit === '' || unit.startsWith('/') ? `${text}${unit}` : `${text} ${unit}`
}

/** The value below which `share` (0 to 1) of the values lie. @throws RangeError without values */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const found = sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  if (found === undefined) throw new RangeError('no values')
  return found
}

/** The middle value. @throws RangeError without values */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** `12 to 15 ms in 5 runs`. */
export function spread(values: readonly number[], unit: string): string {
  const [least, most] = [Math.min(...values), Math.max(...values)]
  return `${withUnit(least, unit)} to ${withUnit(most, unit)} in ${values.length} runs`
}

/** Runs `measure` a few times. */
export async function repeated<T>(times: number, measure: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  for (let index = 0; index < times; index += 1) results.push(await measure(index))
  return results
}
