/** Owns the facts about the machine without which a figure says nothing. */
import { cpus, loadavg, release, totalmem, type } from 'node:os'

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly node: string
  /** Load averages over 1, 5 and 15 minutes. */
  readonly load: readonly string[]
}

/** The machine as it is now. */
export function machine(): Machine {
  const all = cpus()
  return {
    processor: all[0]?.model.trim() ?? 'unknown processor',
    cores: all.length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    kernel: `${type()} ${release()}`,
    node: process.versions.node,
    load: loadavg().map((value) => value.toFixed(2)),
  }
}
