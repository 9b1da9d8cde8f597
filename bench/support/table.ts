/** Owns how figures are printed: columns of text, one line a figure, what else is to be said below it. */
import type { Row } from '../scenario.ts'

function verdictText({ verdict, marginPercent }: Row): string {
  if (verdict === 'shown') return ''
  const margin = marginPercent === undefined ? '' : ` by ${Math.abs(marginPercent)} %`
  return verdict === 'met' ? `met${margin}` : `MISSED${margin}`
}

function othersText({ others }: Row): string {
  return Object.entries(others ?? {})
    .map(([name, figure]) => `${name} ${figure}`)
    .join(' · ')
}

/** Rows as aligned text. */
export function table(rows: readonly Row[]): string {
  const head = ['what', 'to reach', 'measured', 'verdict', "the vendors' own"]
  const cells = rows.map((row) => [row.what, row.toReach, row.measured, verdictText(row), othersText(row)])
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((line) => line[column]?.length ?? 0)),
  )
  const line = (texts: readonly string[]): string =>
    `  ${texts.map((text, column) => text.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd()
  return [
    line(head),
    line(widths.map((width) => '-'.repeat(width))),
    ...cells.flatMap((texts, index) => {
      const note = rows[index]?.note
      return note === undefined ? [line(texts)] : [line(texts), `      ${note}`]
    }),
  ].join('\n')
}
