/** Owns `keyferry lint`: SecretProviderClasses of every dialect checked offline, by the planner that the server uses. */
import { createHttpClient } from '../net/client.ts'
import { silentLogger } from '../telemetry/log.ts'
import { silentMeter } from '../telemetry/metrics.ts'
import { checkSpc, type CheckOptions } from './lint/check.ts'
import { faultsOf, type Finding, type LintResult } from './lint/findings.ts'
import { sarifLog } from './lint/sarif.ts'
import { textReport } from './lint/text.ts'
import { streamConfig, type StreamConfig } from './lint/stream-config.ts'
import { ConfigError } from '../config.ts'
import type { Registry } from '../providers/registry.ts'
import { loadRegistry, providerNames } from './provider-process.ts'
import { effectiveConfig } from './serve.ts'
import { inspectSpcs, readTexts, type NamedText } from './spc-files.ts'
import { UsageError } from './usage.ts'

export interface LintFlags {
  readonly config?: string
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly json?: boolean
  readonly sarif?: boolean
  readonly quiet?: boolean
}

/**
 * Checks every class of the files and prints the report.
 * @returns whether there is no fault; warnings are none.
 * @throws UsageError, ConfigError
 */
export async function lint(files: readonly string[], flags: LintFlags): Promise<boolean> {
  const sources = await readTexts(files)
  const found = flags.config === undefined ? streamConfig(sources) : undefined
  const loaded = found?.loaded ?? (await effectiveConfig(flags))
  const http = createHttpClient({ rules: { refused: [] } })
  try {
    const context = { log: silentLogger, http, env: process.env, meter: silentMeter }
    const registry = await loadRegistry(loaded, context, 'operator')
    const configFaults =
      found === undefined ? [] : [...found.findings, ...(await storeFaults(found, registry))]
    const isSound = configFaults.every(({ severity }) => severity !== 'fault')
    const result = await lintSources(sources, configFaults, {
      providers: providerNames(loaded, registry),
      dialect: (provider) => registry.dialect(provider),
      limits: { maxOutputs: loaded.config.limits.objects },
      pod: flags,
      ...(!isSound && { unchecked: 'keyferry' }),
      hasConfiguration: found !== undefined,
    })
    process.stdout.write(reportOf(result, flags))
    return faultsOf(result).length === 0
  } finally {
    http.close()
  }
}

/** What is wrong with the stores of a configuration in the stream, beyond its shape. */
async function storeFaults({ finding }: StreamConfig, registry: Registry): Promise<readonly Finding[]> {
  try {
    await registry.dialect('keyferry')
    return []
  } catch (error) {
    if (error instanceof ConfigError) return [finding(error)]
    throw error
  }
}

/** @throws UsageError where no source has a class, a configuration or a fault. */
async function lintSources(
  sources: readonly NamedText[],
  configFindings: readonly Finding[],
  options: CheckOptions & { readonly unchecked?: string; readonly hasConfiguration: boolean },
): Promise<LintResult> {
  const findings: Finding[] = []
  let classes = 0
  for (const { file, text } of sources) {
    const found = inspectSpcs(file, text)
    const ofFile: Finding[] = [
      ...found.faults.map((fault) => ({ file, ...fault })),
      ...configFindings.filter((one) => one.file === file),
    ]
    for (const spc of found.classes)
      if (spc.provider !== options.unchecked) ofFile.push(...(await checkSpc(spc, options)))
    classes += found.count
    findings.push(...ofFile.sort((a, b) => a.line - b.line || a.column - b.column))
  }
  const names = sources.map(({ file }) => file)
  if (classes === 0 && findings.length === 0 && !options.hasConfiguration)
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
