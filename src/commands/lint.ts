/** Owns `keyferry lint`: SecretProviderClasses of every dialect checked offline, by the planner that the server uses. */
import { text as textOf } from 'node:stream/consumers'
import { createHttpClient } from '../net/client.ts'
import { silentLogger } from '../telemetry/log.ts'
import { silentMeter } from '../telemetry/metrics.ts'
import { checkSpc, type CheckOptions } from './lint/check.ts'
import { faultsOf, type Finding, type LintResult } from './lint/findings.ts'
import { sarifLog } from './lint/sarif.ts'
import { textReport } from './lint/text.ts'
import { loadRegistry, providerNames } from './provider-process.ts'
import { effectiveConfig } from './serve.ts'
import { inspectSpcs, readText } from './spc-files.ts'
import { UsageError } from './usage.ts'

export interface LintFlags {
  readonly config?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly json?: boolean
  readonly sarif?: boolean
  readonly quiet?: boolean
}

const STDIN = '-'
/** What the standard input is called in reports. */
const STDIN_NAME = 'stdin'

/**
 * Checks every class of the files and prints the report.
 * @returns whether there is no fault; warnings are none.
 * @throws UsageError, ConfigError
 */
export async function lint(files: readonly string[], flags: LintFlags): Promise<boolean> {
  const loaded = await effectiveConfig(flags)
  const http = createHttpClient({ rules: { refused: [] } })
  try {
    const context = { log: silentLogger, http, env: process.env, meter: silentMeter }
    const registry = await loadRegistry(loaded, context, 'operator')
    const result = await lintFiles([...new Set(files)], {
      providers: providerNames(loaded, registry),
      dialect: (provider) => registry.dialect(provider),
      limits: { maxOutputs: loaded.config.limits.objects },
      pod: flags,
    })
    process.stdout.write(reportOf(result, flags))
    return faultsOf(result).length === 0
  } finally {
    http.close()
  }
}

/** @throws UsageError where a file cannot be read, or none of them has a class or a fault. */
export async function lintFiles(files: readonly string[], options: CheckOptions): Promise<LintResult> {
  const findings: Finding[] = []
  const names: string[] = []
  let classes = 0
  for (const given of files) {
    const file = given === STDIN ? STDIN_NAME : given
    const found = inspectSpcs(file, given === STDIN ? await textOf(process.stdin) : await readText(file))
    const ofFile: Finding[] = found.faults.map((fault) => ({ file, ...fault }))
    for (const spc of found.classes) ofFile.push(...(await checkSpc(spc, options)))
    names.push(file)
    classes += found.count
    findings.push(...ofFile.sort((a, b) => a.line - b.line || a.column - b.column))
  }
  if (classes === 0 && findings.length === 0)
    throw new UsageError(
      `${names.join(', ')}: there is no SecretProviderClass (apiVersion secrets-store.csi.x-k8s.io/v1)`,
    )
  return { files: names, classes, findings }
}

function reportOf(result: LintResult, flags: LintFlags): string {
  if (flags.sarif) return `${JSON.stringify(sarifLog(result, process.cwd()), undefined, 2)}\n`
  if (!flags.json) return textReport(result, flags.quiet ?? false)
  const faults = faultsOf(result)
  const { files, classes, findings } = result
  const counts = { classes, faults: faults.length, warnings: findings.length - faults.length }
  return `${JSON.stringify({ files, counts, findings: flags.quiet ? faults : findings }, undefined, 2)}\n`
}
