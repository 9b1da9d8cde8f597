/**
 * Owns decoding YAML the way the vendors' Go providers do: by target type. A dialect describes its
 * document with decoders and gets the values Go would have, or every problem with its place.
 *
 * ```ts
 * const entry = goStruct('SecretObject', { objectName: goString, filePermission: goInt('int32') })
 * const { value, problems } = decodeGoYaml(text, 'yaml3', goSlice(entry))
 * ```
 *
 * `yaml3` is gopkg.in/yaml.v3 (Azure, GCP, Vault, Conjur …): exact field names, duplicate keys refused,
 * strings keep the source text. `sigs` is sigs.k8s.io/yaml (AWS, Alibaba): YAML 1.1 turned into JSON and
 * that into fields, names without regard to case, the last duplicate wins, numbers are re-rendered
 * (dependencies.md section 9).
 */
import { formatGoFloat32, formatGoJsonFloat } from './go-numbers.ts'
import { compareUtf8, JsonNumber } from './json.ts'
import type { JsonValue } from './json.ts'
import { effectivePairs } from './yaml-merge.ts'
import { resultOf, type Steps } from './steps.ts'
import { YamlError, yamlSteps } from './yaml-nodes.ts'
import type { YamlLimits, YamlMap, YamlNode, YamlScalar } from './yaml-nodes.ts'
import { resolveScalar, shortTag, YAML11_FALSE, YAML11_TRUE } from './yaml-scalars.ts'
import type { GoYamlFlavour, ResolvedScalar } from './yaml-scalars.ts'

export { YamlError } from './yaml-nodes.ts'
export type { GoYamlFlavour } from './yaml-scalars.ts'

/** One thing wrong with the document. */
export interface YamlProblem {
  /** Without position, in Go's words where Go has them. Quotes at most 10 characters of a scalar. */
  readonly message: string
  /** From 1; absent when the fault has no place. */
  readonly line?: number
  readonly column?: number
}

/** What a decode collects on its way. */
export interface Decoding {
  readonly flavour: GoYamlFlavour
  readonly problems: YamlProblem[]
}

/** How a node becomes a `T`. */
export interface GoDecoder<T> {
  /** Go's name of the target type, for error texts. */
  readonly type: string
  /** What Go has when the field is absent. */
  zero(): T
  /** `node` is never null here unless {@link GoDecoder.takesNull}. */
  decode(node: YamlNode, decoding: Decoding): T
  /** The target can hold null itself (a pointer, an interface): list items that are null stay. */
  readonly takesNull?: boolean
}

export type Decoded<D> = D extends GoDecoder<infer T> ? T : never

/** The value, meaningful only when there are no problems. */
export interface GoYaml<T> {
  readonly value: T
  readonly problems: readonly YamlProblem[]
}

/** Decodes the first document of `source`. Never throws on foreign input. */
export function decodeGoYaml<T>(...given: Parameters<typeof decodeGoYamlSteps<T>>): GoYaml<T> {
  return resultOf(decodeGoYamlSteps(...given))
}

/** {@link decodeGoYaml} in small steps, for texts of a SecretProviderClass (T17). */
export function* decodeGoYamlSteps<T>(
  source: string | Uint8Array,
  flavour: GoYamlFlavour,
  decoder: GoDecoder<T>,
  limits?: YamlLimits,
): Steps<GoYaml<T>> {
  const problems: YamlProblem[] = []
  try {
    const root = yield* yamlSteps(source, limits)
    yield
    const value = root === undefined ? decoder.zero() : decodeNode(root, decoder, { flavour, problems })
    return { value, problems }
  } catch (error) {
    if (!(error instanceof YamlError)) throw error
    const { line, column } = error
    const message = error.message.replace(/^yaml: (?:line \d+: )?/, '')
    problems.push({ message, ...(line && { line }), ...(column && { column }) })
    return { value: decoder.zero(), problems }
  }
}

/** All problems as one text in Go's form: `yaml: unmarshal errors:` with a line for each, or `yaml: line 3: …`. */
export function goYamlErrorText(problems: readonly YamlProblem[]): string {
  const lines = problems.map(({ line, message }) =>
    line === undefined ? message : `line ${line}: ${message}`,
  )
  const typed =
    problems.length > 1 || /^(?:cannot unmarshal|mapping key|field )/.test(problems[0]?.message ?? '')
  return typed ? `yaml: unmarshal errors:\n  ${lines.join('\n  ')}` : `yaml: ${lines.join('')}`
}

function report(decoding: Decoding, { line, column }: YamlNode, message: string): void {
  decoding.problems.push({ message, line, column })
}

const isNull = (node: YamlNode, flavour: GoYamlFlavour) =>
  node.kind === 'scalar' && resolveScalar(node, flavour).type === 'null'

function decodeNode<T>(node: YamlNode, decoder: GoDecoder<T>, decoding: Decoding): T {
  if (decoder.takesNull !== true && isNull(node, decoding.flavour)) return decoder.zero()
  return decoder.decode(node, decoding)
}

/** Reports, in Go's words, that `node` cannot become `type`. */
function mismatch<T>(node: YamlNode, decoder: GoDecoder<T>, decoding: Decoding): T {
  if (node.kind !== 'scalar') {
    const tag = node.kind === 'map' ? '!!map' : '!!seq'
    report(decoding, node, `cannot unmarshal ${tag} into ${decoder.type}`)
  } else {
    const quoted = node.text.length > 10 ? `${node.text.slice(0, 7)}...` : node.text
    const tag = shortTag(node, decoding.flavour)
    report(decoding, node, `cannot unmarshal ${tag} \`${quoted}\` into ${decoder.type}`)
  }
  return decoder.zero()
}

/** The text a scalar has as a Go string under `flavour`: its source text, or re-rendered by sigs. */
function stringOf(node: YamlScalar, resolved: ResolvedScalar, flavour: GoYamlFlavour): string {
  if (resolved.type === 'binary') return resolved.bytes.toString('utf8')
  if (flavour === 'yaml3') return node.text
  if (resolved.type === 'int') return resolved.value.toString()
  if (resolved.type === 'bool') return String(resolved.value)
  return resolved.type === 'float' ? formatGoFloat32(resolved.value) : node.text
}

/** A `string` field. Null and absent are `''`. */
export const goString: GoDecoder<string> = {
  type: 'string',
  zero: () => '',
  decode(node, decoding) {
    if (node.kind !== 'scalar') return mismatch(node, goString, decoding)
    return stringOf(node, resolveScalar(node, decoding.flavour), decoding.flavour)
  },
}

/** A `bool` field. yaml.v3 takes YAML 1.1's words here; nobody takes a quoted text that YAML 1.2 knows. */
export const goBool: GoDecoder<boolean> = {
  type: 'bool',
  zero: () => false,
  decode(node, decoding) {
    if (node.kind !== 'scalar') return mismatch(node, goBool, decoding)
    const resolved = resolveScalar(node, decoding.flavour)
    if (resolved.type === 'bool') return resolved.value
    if (resolved.type === 'str' && decoding.flavour === 'yaml3') {
      if (YAML11_TRUE.has(resolved.text)) return true
      if (YAML11_FALSE.has(resolved.text)) return false
    }
    return mismatch(node, goBool, decoding)
  },
}

const RANGES = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint32: [0, 2 ** 32 - 1],
} as const

/** An `int32` or `uint32` field. yaml.v3 cuts off fractions; sigs refuses them. Absent is 0. */
export function goInt(type: keyof typeof RANGES): GoDecoder<number> {
  const [least, most] = RANGES[type]
  const decoder: GoDecoder<number> = {
    type,
    zero: () => 0,
    decode(node, decoding) {
      if (node.kind !== 'scalar') return mismatch(node, decoder, decoding)
      const resolved = resolveScalar(node, decoding.flavour)
      let value = NaN
      if (resolved.type === 'int') value = Number(resolved.value)
      else if (resolved.type === 'float') {
        const whole = Math.trunc(resolved.value)
        if (decoding.flavour === 'yaml3' || whole === resolved.value) value = whole + 0
      }
      // Written so that NaN fails too.
      if (!(value >= least && value <= most)) return mismatch(node, decoder, decoding)
      return value
    },
  }
  return decoder
}

/** A pointer field: `undefined` when absent or null. */
export function goPointer<T>(target: GoDecoder<T>): GoDecoder<T | undefined> {
  return {
    type: target.type,
    takesNull: true,
    zero: () => undefined,
    decode: (node, decoding) => (isNull(node, decoding.flavour) ? undefined : target.decode(node, decoding)),
  }
}

/** A value with where it stands in the text; `undefined` for an absent or null one. */
export interface Located<T> {
  readonly value: T
  readonly line: number
  readonly column: number
}

/** Wraps a decoder so that the dialect learns the position, and absence. */
export function located<T>(target: GoDecoder<T>): GoDecoder<Located<T> | undefined> {
  return {
    type: target.type,
    ...(target.takesNull === true && { takesNull: true }),
    zero: () => undefined,
    decode: (node, decoding) => ({
      value: target.decode(node, decoding),
      line: node.line,
      column: node.column,
    }),
  }
}

/**
 * A slice. A null item is dropped by yaml.v3 and a zero element for sigs; wrap the item in
 * {@link goPointer} where the vendor has a slice of pointers: then it is `undefined`.
 */
export function goSlice<T>(item: GoDecoder<T>): GoDecoder<readonly T[]> {
  const decoder: GoDecoder<readonly T[]> = {
    type: `[]${item.type}`,
    zero: () => [],
    decode(node, decoding) {
      if (node.kind !== 'list') return mismatch(node, decoder, decoding)
      const { flavour } = decoding
      const kept = node.items.filter(
        (child) => item.takesNull || flavour === 'sigs' || !isNull(child, flavour),
      )
      return kept.map((child) => decodeNode(child, item, decoding))
    },
  }
  return decoder
}

/** A `map[string]T`, in document order (sigs: keys sorted). Null keys are left out by yaml.v3. */
export function goMap<T>(element: GoDecoder<T>): GoDecoder<ReadonlyMap<string, T>> {
  const decoder: GoDecoder<ReadonlyMap<string, T>> = {
    type: `map[string]${element.type}`,
    zero: () => new Map(),
    decode(node, decoding) {
      if (node.kind !== 'map') return mismatch(node, decoder, decoding)
      const result = new Map<string, T>()
      for (const { key, value } of namedPairs(node, decoding))
        result.set(key, decodeNode(value, element, decoding))
      return result
    },
  }
  return decoder
}

interface NamedPair {
  readonly key: string
  readonly keyNode: YamlNode
  readonly value: YamlNode
}

/** Pairs with merges done and keys as text, in the order in which Go assigns them. */
function namedPairs(node: YamlNode, decoding: Decoding): readonly NamedPair[] {
  const { flavour } = decoding
  const { pairs, duplicates } = effectivePairs(node, flavour)
  for (const { key, first } of duplicates) {
    const text = key.kind === 'scalar' ? key.text.slice(0, 64) : ''
    report(decoding, key, `mapping key "${text}" already defined at line ${first.line}`)
  }
  const named = pairs.flatMap(({ key, value }): readonly NamedPair[] => {
    if (key.kind !== 'scalar') {
      mismatch(key, goString, decoding)
      return []
    }
    const resolved = resolveScalar(key, flavour)
    if (resolved.type === 'null') {
      if (flavour === 'sigs') report(decoding, key, 'unsupported map key of type null')
      return []
    }
    if (flavour === 'sigs' && resolved.type === 'int' && resolved.value >= 2n ** 63n) {
      report(decoding, key, 'unsupported map key of type uint64')
    }
    return [{ key: keyText(key, resolved, flavour), keyNode: key, value }]
  })
  return flavour === 'sigs' ? lastOfEachSorted(named) : named
}

function keyText(node: YamlScalar, resolved: ResolvedScalar, flavour: GoYamlFlavour): string {
  const text = stringOf(node, resolved, flavour)
  if (flavour !== 'sigs' || resolved.type !== 'float' || Number.isFinite(resolved.value)) return text
  return Number.isNaN(resolved.value) ? '.nan' : resolved.value > 0 ? '.inf' : '-.inf'
}

/** The JSON on sigs' way is a Go map: one value a key, keys in byte order. */
function lastOfEachSorted(pairs: readonly NamedPair[]): readonly NamedPair[] {
  const last = new Map(pairs.map((pair) => [pair.key, pair]))
  return [...last.values()].sort((a, b) => compareUtf8(a.key, b.key))
}

type Fields = Readonly<Record<string, GoDecoder<unknown>>>
export type StructOf<F extends Fields> = { -readonly [K in keyof F]: Decoded<F[K]> }

export interface StructOptions {
  /** `problem` for our own lists and the vendors that decode strictly. Default `ignore`. */
  readonly unknown?: 'ignore' | 'problem'
}

/** A struct: a mapping with known fields. Every field is present in the result, zero when absent. */
export function goStruct<const F extends Fields>(
  type: string,
  fields: F,
  options: StructOptions = {},
): GoDecoder<StructOf<F>> {
  const names = Object.keys(fields)
  const exact = new Map(names.map((name) => [name, name]))
  const folded = new Map(names.toReversed().map((name) => [fold(name), name]))
  const zero = () => Object.fromEntries(names.map((name) => [name, fields[name]?.zero()])) as StructOf<F>
  const decoder: GoDecoder<StructOf<F>> = {
    type,
    zero,
    decode(node, decoding) {
      if (node.kind !== 'map') return mismatch(node, decoder, decoding)
      const result: Record<string, unknown> = zero()
      for (const { key, keyNode, value } of namedPairs(node, decoding)) {
        const name = exact.get(key) ?? (decoding.flavour === 'sigs' ? folded.get(fold(key)) : undefined)
        const field = name === undefined ? undefined : fields[name]
        if (name === undefined || field === undefined) {
          if (options.unknown === 'problem') {
            report(decoding, keyNode, `field ${key.slice(0, 64)} not found in type ${type}`)
          }
          // On sigs' way the whole document becomes JSON, also what nobody asked for.
          if (decoding.flavour === 'sigs') goAny.decode(value, decoding)
          continue
        }
        // In JSON, null leaves a plain field as it is; only pointers, lists and maps are emptied.
        if (decoding.flavour === 'sigs' && isNull(value, 'sigs') && typeof result[name] !== 'object') continue
        result[name] = decodeNode(value, field, decoding)
      }
      return result as StructOf<F>
    },
  }
  return decoder
}

/** Case folding of encoding/json: ASCII, and the two letters that fold into ASCII. */
function fold(name: string): string {
  return name.replaceAll('\u017F', 's').replaceAll('\u212A', 'k').toLowerCase()
}

/**
 * An `interface{}` as it reads in Go's JSON: integers exact, timestamps RFC 3339 text, maps with string
 * keys only. Infinities and maps with other keys are problems, as they are when Go writes them.
 */
export const goAny: GoDecoder<JsonValue> = {
  type: 'interface {}',
  takesNull: true,
  zero: () => null,
  decode(node, decoding) {
    if (node.kind === 'list') return node.items.map((item) => goAny.decode(item, decoding))
    if (node.kind === 'scalar') return jsonScalar(node, decoding)
    const result = new Map<string, JsonValue>()
    if (decoding.flavour === 'yaml3') refuseForeignKeys(node, decoding)
    for (const { key, value } of namedPairs(node, decoding)) result.set(key, goAny.decode(value, decoding))
    return result
  },
}

/** yaml.v3 makes a `map[interface{}]interface{}` of a mapping with other keys, which JSON cannot hold. */
function refuseForeignKeys(node: YamlMap, decoding: Decoding): void {
  const foreign = node.pairs.find(({ key }) => {
    return key.kind === 'scalar' && !['!!str', '!!merge'].includes(shortTag(key, 'yaml3'))
  })
  if (foreign !== undefined) report(decoding, foreign.key, 'a key inside a value must be text')
}

function jsonScalar(node: YamlScalar, decoding: Decoding): JsonValue {
  const resolved = resolveScalar(node, decoding.flavour)
  switch (resolved.type) {
    case 'null':
      return null
    case 'bool':
      return resolved.value
    case 'int':
      return new JsonNumber(resolved.value.toString())
    case 'float': {
      const text = formatGoJsonFloat(resolved.value)
      if (text === undefined) report(decoding, node, 'infinities and NaN cannot be written as JSON')
      return new JsonNumber(text ?? '0')
    }
    case 'time':
      return decoding.flavour === 'yaml3' ? resolved.text : node.text
    default:
      return stringOf(node, resolved, decoding.flavour)
  }
}
