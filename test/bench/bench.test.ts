import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Report } from '../../bench/run.ts'
import { median, quantile, row } from '../../bench/scenario.ts'

const RUN = join(import.meta.dirname, '../../bench/run.ts')

function bench(...args: string[]): {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
} {
  return spawnSync(process.execPath, [RUN, ...args], { encoding: 'utf8' })
}

describe('the benchmark', () => {
  it('measures the shipped bundle and reports figures, targets and the machine, as text and as JSON', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kf-bench-test-'))
    try {
      const file = join(directory, 'figures.json')
      const { status, stdout, stderr } = bench('--quick', '--only', 'start', '--json', file)
      expect(status, stderr + stdout).toBe(0)
      const report = JSON.parse(readFileSync(file, 'utf8')) as Report
      expect(report.quick).toBe(true)
      expect(report.machine.cores).toBeGreaterThan(0)
      expect(report.machine.node).toMatch(/^\d+\.\d+\.\d+/)
      expect(report.scenarios.map(({ name }) => name)).toEqual(['start'])
      const rows = report.scenarios[0]?.rows ?? []
      const bound = rows.find(({ what }) => what === 'process start to sockets bound')
      expect(bound).toMatchObject({ unit: 'ms', toReach: '≤ 120 ms', value: expect.any(Number) })
      expect(bound?.value).toBeGreaterThan(0)
      expect(['met', 'missed']).toContain(bound?.verdict)
      for (const { what } of rows) expect(stdout).toContain(what)
      expect(stdout.trimEnd().split('\n').at(-1)).toMatch(
        /^(?:All \d+ targets met|MISSED \d+ of \d+ targets).*Quick run/,
      )
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  it('T29 the outage holds its targets, which no other program on the machine can change, and draws itself', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kf-bench-test-'))
    try {
      const file = join(directory, 'figures.json')
      const { status, stdout, stderr } = bench(
        '--quick',
        '--only',
        'outage',
        '--json',
        file,
        '--plots',
        directory,
      )
      expect(status, stderr + stdout).toBe(0)
      const report = JSON.parse(readFileSync(file, 'utf8')) as Report
      const rows = report.scenarios[0]?.rows ?? []
      expect(rows.length).toBeGreaterThan(8)
      expect(
        rows.filter(({ verdict }) => verdict !== 'met').map(({ what, measured }) => `${what}: ${measured}`),
      ).toEqual([])
      expect(readFileSync(join(directory, 'outage-quick.svg'), 'utf8')).toContain('store away')
      expect(stdout).toMatch(/[▁▂▃▄▅▆▇█]{10}/)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }, 60_000)

  it('refuses a scenario that does not exist, and says which there are when asked', () => {
    expect(bench('--only', 'nothing')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('there is no scenario nothing'),
    })
    const help = bench('--help')
    expect(help.status).toBe(0)
    for (const name of [
      'start',
      'latency',
      'throughput',
      'keyferry',
      'fairness',
      'outage',
      'peak',
      'hostile',
      'memory',
    ])
      expect(help.stdout).toContain(`  ${name} `)
  })

  it('judges a figure by its target, and says by how much', () => {
    const figure = { what: 'x', unit: 'ms' }
    expect(row({ ...figure, value: 40, target: { atMost: 50 } })).toMatchObject({
      verdict: 'met',
      marginPercent: 20,
    })
    expect(row({ ...figure, value: 60, target: { atMost: 50 } })).toMatchObject({
      verdict: 'missed',
      marginPercent: -20,
    })
    expect(row({ ...figure, value: 60, target: { atLeast: 50 } })).toMatchObject({
      verdict: 'met',
      toReach: '≥ 50 ms',
    })
    expect(row({ ...figure, value: 1, target: { atMost: 0 } }).verdict).toBe('missed')
    expect(row({ ...figure, value: 60 })).toMatchObject({ verdict: 'shown', toReach: '' })
  })

  it('takes medians and quantiles of the values it has, and none of nothing', () => {
    expect(median([5, 1, 3])).toBe(3)
    expect(quantile([1, 2, 3, 4], 0.99)).toBe(4)
    expect(() => median([])).toThrow(RangeError)
  })
})
