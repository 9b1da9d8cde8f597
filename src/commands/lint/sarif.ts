/** Owns the report that code hosts read: SARIF 2.1.0. */
import { isAbsolute, relative, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { VERSION } from '../../version.ts'
import { adviceOf, type Finding, type LintResult } from './findings.ts'

const SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json'
const LEVEL = { fault: 'error', warning: 'warning' } as const satisfies Record<Finding['severity'], string>

/** The SARIF log of a check. Paths are relative to `directory`, so that annotations meet the repository's files. */
export function sarifLog(result: LintResult, directory: string) {
  const codes = [...new Set(result.findings.map(({ code }) => code))].sort()
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'keyferry lint',
            version: VERSION,
            rules: codes.map((id) => ({ id, shortDescription: { text: words(id) } })),
          },
        },
        columnKind: 'utf16CodeUnits',
        results: result.findings.map((finding) => ({
          ruleId: finding.code,
          ruleIndex: codes.indexOf(finding.code),
          level: LEVEL[finding.severity],
          message: { text: adviceOf(finding) },
          locations: [
            {
              physicalLocation: {
                artifactLocation: { uri: uriOf(finding.file, directory) },
                region: { startLine: finding.line, startColumn: finding.column },
              },
            },
          ],
        })),
      },
    ],
  }
}

/** `NO_OBJECTS` → `No objects`. */
function words(code: string): string {
  return code.charAt(0) + code.slice(1).toLowerCase().replaceAll('_', ' ')
}

function uriOf(file: string, directory: string): string {
  const path = isAbsolute(file) ? relative(directory, file) : file
  if (path.startsWith(`..${sep}`) || isAbsolute(path)) return pathToFileURL(file).href
  return path.split(sep).map(encodeURIComponent).join('/')
}
