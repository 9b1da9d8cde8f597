/** Owns the configuration of the nodes where it is among the checked objects: the ConfigMap that the DaemonSet mounts. */
import { isMap, isScalar, LineCounter, parseAllDocuments, type Scalar } from 'yaml'
import { ConfigError, parseConfig, type LoadedConfig } from '../../config.ts'
import { placeInScalar, placeOf, type Place, type SourceText } from '../spc-places.ts'
import type { NamedText } from '../spc-files.ts'
import type { Finding } from './findings.ts'

/** The configuration found in a stream. */
export interface StreamConfig {
  /** With nothing that would load a module or read a file; the defaults where it has a fault. */
  readonly loaded: LoadedConfig
  readonly findings: readonly Finding[]
  /** The fault that `error` is, at its place in the stream. */
  readonly finding: (error: ConfigError) => Finding
}

/** Name and key of the ConfigMap (daemonset/keyferry.yaml). */
const NAME = 'keyferry'
const KEY = 'config.yaml'

/** The first such ConfigMap of the sources; undefined without one. */
export function streamConfig(sources: readonly NamedText[]): StreamConfig | undefined {
  const [first, ...more] = sources.flatMap(configMaps)
  if (first === undefined) return undefined
  const findings: Finding[] = more.map((one) =>
    warning(
      one,
      'another ConfigMap keyferry comes first, and its configuration is the one in use',
      'Merge them',
    ),
  )
  const finding = (error: ConfigError): Finding => faultIn(first, error)
  let loaded = parseConfig('', '')
  try {
    loaded = parseConfig('', first.scalar.value)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    findings.push(finding(error))
  }
  if (loaded.config.adapters.length > 0)
    findings.push(
      warning(
        first,
        'its adapters are not loaded: a checked file runs no code',
        'Use --config to check with them',
      ),
    )
  return {
    // What is being checked must not make us import a module or open a file.
    loaded: { ...loaded, config: { ...loaded.config, adapters: [], backends: {} } },
    findings,
    finding,
  }
}

interface FoundConfig {
  readonly file: string
  readonly source: SourceText
  readonly scalar: Scalar<string>
}

function configMaps({ file, text }: NamedText): FoundConfig[] {
  // Reading a large stream a second time takes as long as the first.
  if (!text.includes('ConfigMap') || !text.includes(KEY)) return []
  const source: SourceText = { text, lines: new LineCounter() }
  return parseAllDocuments(text, { lineCounter: source.lines, logLevel: 'error' }).flatMap(
    ({ contents, errors }): FoundConfig[] => {
      if (errors.length > 0 || !isMap(contents)) return []
      const [kind, version]: unknown[] = [contents.get('kind'), contents.get('apiVersion')]
      if (kind !== 'ConfigMap' || version !== 'v1') return []
      if (contents.getIn(['metadata', 'name']) !== NAME) return []
      const scalar: unknown = contents.getIn(['data', KEY], true)
      if (!isScalar(scalar) || typeof scalar.value !== 'string') return []
      return [{ file, source, scalar: scalar as Scalar<string> }]
    },
  )
}

function warning({ file, source, scalar }: FoundConfig, message: string, remedy: string): Finding {
  return {
    severity: 'warning',
    file,
    ...placeOf(source, scalar),
    code: 'CONFIG_MAP',
    message: `${KEY}: ${message}`,
    remedy,
  }
}

/** A {@link ConfigError} of a text without a file name begins with line and column in that text. */
function faultIn({ file, source, scalar }: FoundConfig, { message }: ConfigError): Finding {
  const [, line, column, reason] = /^:(\d{1,9}):(\d{1,9}): ([^]*)$/.exec(message) ?? []
  const inner: Place = { line: Number(line ?? 1), column: Number(column ?? 1) }
  return {
    severity: 'fault',
    file,
    ...placeInScalar(source, scalar, scalar.value, inner),
    code: 'CONFIG_MAP',
    message: `${KEY}: ${reason ?? message}`,
    remedy: 'Classes of provider keyferry are checked once it is corrected',
  }
}
