/** Owns the report that people read. */
import { adviceOf, faultsOf, printable, type Finding, type LintResult } from './findings.ts'

/**
 * Findings by file, one a line, then how many there are. `quiet` leaves out warnings, and says nothing
 * at all where there is no fault.
 */
export function textReport(result: LintResult, quiet: boolean): string {
  const faults = faultsOf(result)
  const shown = quiet ? faults : result.findings
  const files = Array.from(
    Map.groupBy(shown, ({ file }) => file),
    ([file, findings]) => {
      return `${printable(file)}\n${table(findings)}\n`
    },
  )
  if (quiet && faults.length === 0) return ''
  const counted = `${counts(result.classes, 'class', 'classes')} in ${counts(result.files.length, 'file', 'files')}`
  const warnings = result.findings.length - faults.length
  const found = [
    faults.length === 0 ? 'no faults' : counts(faults.length, 'fault', 'faults'),
    ...(warnings === 0 || quiet ? [] : [counts(warnings, 'warning', 'warnings')]),
  ]
  return `${files.join('')}${counted}: ${found.join(', ')}\n`
}

function table(findings: readonly Finding[]): string {
  const rows = findings.map((one) => {
    const about = one.secretProviderClass === undefined ? '' : `${printable(one.secretProviderClass)}: `
    return [`${one.line}:${one.column}`, one.severity, one.code, about + adviceOf(one)]
  })
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}\n`)
    .join('')
}

function counts(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`
}
