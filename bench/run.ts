/**
 * Owns `npm run bench`: runs scenarios and prints their figures beside the targets of design.md section 7.
 * A report and no gate: a missed number leaves the exit code at 0 and is said in the last line.
 * Exit codes: 0 everything was measured, 1 a scenario could not run, 2 wrong use.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { aws } from './aws.ts'
import { azure } from './azure.ts'
import { fairness } from './fairness.ts'
import { gcp } from './gcp.ts'
import { hostile } from './hostile.ts'
import { keyferry } from './keyferry.ts'
import { latency } from './latency.ts'
import { memory } from './memory.ts'
import { peak } from './peak.ts'
import { outage } from './outage.ts'
import type { Row, Scenario } from './scenario.ts'
import { start } from './start.ts'
import { machine, type Machine } from './support/machine.ts'
import { table } from './support/table.ts'
import { throughput } from './throughput.ts'
import { vault } from './vault.ts'

/** In the order in which they run; the cheap ones first. */
const SCENARIOS: readonly Scenario[] = [
  start,
  latency,
  throughput,
  aws,
  azure,
  gcp,
  vault,
  keyferry,
  fairness,
  outage,
  peak,
  hostile,
  memory,
]

const HELP = `Usage: npm run bench [-- FLAGS]

Measures the shipped bundle with the shipped flags and prints each figure beside its target.

  --only NAME    one scenario; may be repeated
  --json FILE    write the figures as JSON too
  --plots DIR    where pictures go; default bench/plots
  --quick        few repetitions: shows that it works, its figures judge nothing
  --help         this text

Scenarios:
${SCENARIOS.map(({ name, title }) => `  ${name.padEnd(14)} ${title}`).join('\n')}

Exit codes: 0 everything was measured (a missed target is said in the last line), 1 a scenario could not
run, 2 wrong use. What is compared with what: bench/README.md
`

/** What became of one scenario. */
interface Outcome {
  readonly name: string
  readonly title: string
  readonly rows: readonly Row[]
  /** Why it could not run. */
  readonly failed?: string
}

/** The content of `--json`. */
export interface Report {
  readonly machine: Machine
  readonly quick: boolean
  readonly scenarios: readonly Outcome[]
}

interface Flags {
  readonly only: readonly string[]
  readonly json: string | undefined
  readonly quick: boolean
  readonly plots: string
}

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const progress = (text: string): void => void process.stderr.write(`${text}\n`)

function flags(): Flags | undefined {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: 'string', multiple: true, default: [] },
        json: { type: 'string' },
        quick: { type: 'boolean', default: false },
        plots: { type: 'string', default: join(import.meta.dirname, 'plots') },
        help: { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      say(HELP)
      return undefined
    }
    const unknown = values.only.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name))
    if (unknown.length > 0) throw new Error(`there is no scenario ${unknown.join(', ')}`)
    return { only: values.only, json: values.json, quick: values.quick, plots: values.plots }
  } catch (error) {
    progress(`bench: ${error instanceof Error ? error.message : String(error)} (see --help)`)
    process.exitCode = 2
    return undefined
  }
}

async function outcomeOf(scenario: Scenario, { quick, plots }: Flags): Promise<Outcome> {
  const { name, title } = scenario
  const directory = await mkdtemp(join(tmpdir(), 'keyferry-bench-'))
  try {
    return { name, title, rows: await scenario.run({ quick, progress, directory, plots }) }
  } catch (error) {
    return { name, title, rows: [], failed: error instanceof Error ? error.message : String(error) }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

function lastLine(outcomes: readonly Outcome[], quick: boolean): string {
  const rows = outcomes.flatMap((outcome) => outcome.rows)
  const judged = rows.filter((row) => row.verdict !== 'shown')
  const missed = judged.filter((row) => row.verdict === 'missed')
  const failed = outcomes.filter((outcome) => outcome.failed !== undefined)
  const parts = [
    missed.length === 0
      ? `All ${judged.length} targets met.`
      : `MISSED ${missed.length} of ${judged.length} targets: ${missed.map((row) => row.what.trim()).join('; ')}.`,
    ...(failed.length === 0 ? [] : [`COULD NOT RUN: ${failed.map((one) => one.name).join(', ')}.`]),
    ...(quick ? ['Quick run: these figures judge nothing.'] : []),
  ]
  return parts.join(' ')
}

async function main(given: Flags): Promise<void> {
  const { only, json, quick } = given
  const before = machine()
  say(
    `${before.processor}, ${before.cores} cores, ${before.memoryGiB} GiB, ${before.kernel}, Node ${before.node}, load before ${before.load.join(' ')}`,
  )
  const chosen = SCENARIOS.filter((scenario) => only.length === 0 || only.includes(scenario.name))
  const outcomes: Outcome[] = []
  for (const scenario of chosen) {
    const outcome = await outcomeOf(scenario, given)
    outcomes.push(outcome)
    say(`\n${outcome.title}  (--only ${outcome.name})`)
    say(outcome.failed === undefined ? table(outcome.rows) : `  COULD NOT RUN: ${outcome.failed}`)
  }
  if (json !== undefined) {
    const report: Report = { machine: before, quick, scenarios: outcomes }
    await writeFile(json, `${JSON.stringify(report, null, 2)}\n`)
  }
  say(`\nload after ${machine().load.join(' ')}`)
  say(lastLine(outcomes, quick))
  if (outcomes.some((outcome) => outcome.failed !== undefined)) process.exitCode = 1
}

const chosenFlags = flags()
if (chosenFlags) await main(chosenFlags)
