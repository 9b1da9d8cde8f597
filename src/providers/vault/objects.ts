/** Owns the text under `objects` of a Vault SPC: its fields, and what each object reads from an answer (vault sections 2.3, 5, 6). */
import type { Steps } from '../../formats/steps.ts'
import { createHmac, type KeyObject } from 'node:crypto'
import {
  decodeGoYamlSteps,
  goAny,
  goInt,
  goMap,
  goPointer,
  goSlice,
  goString,
  goStruct,
  located,
} from '../../formats/go-yaml.ts'
import { formatGoJson, JsonNumber, type JsonValue } from '../../formats/json.ts'
import { SelectError, type Problem, type Select, type VersionFacts } from '../adapter.ts'
import { parseEnvelope, ReplyError, secretData, valueText } from './response.ts'

/** One entry of `objects`, as written. */
export interface VaultObject {
  readonly objectName: string
  readonly secretPath: string
  /** Empty: the whole response. */
  readonly secretKey: string
  /** Empty: GET. */
  readonly method: string
  readonly secretArgs: ReadonlyMap<string, JsonValue> | undefined
  /** 0: the mount's mode. */
  readonly filePermission: number
  readonly encoding: string
}

const objectDecoder = goStruct('Secret', {
  objectName: goString,
  secretPath: goString,
  secretKey: goString,
  method: goString,
  secretArgs: goPointer(goMap(goAny)),
  filePermission: goInt('uint32'),
  encoding: goString,
})
const objectsDecoder = goSlice(located(objectDecoder))

/** An object and where it stands in the text. */
export interface PlacedObject {
  readonly object: VaultObject
  readonly line: number
  readonly column: number
}

/** The objects, or what is wrong with the text. */
export function* parseObjects(text: string): Steps<{
  readonly objects: readonly PlacedObject[]
  readonly problems: readonly Problem[]
}> {
  const { value, problems } = yield* decodeGoYamlSteps(text, 'yaml3', objectsDecoder)
  const objects = value.flatMap((placed) =>
    placed === undefined ? [] : [{ object: placed.value, line: placed.line, column: placed.column }],
  )
  return {
    objects,
    problems: problems.map(({ message, line, column }) => ({
      code: 'VAULT_OBJECTS',
      message: `objects: ${message}`,
      remedy: 'Write objects as a YAML list whose items have objectName, secretPath and secretKey',
      parameter: 'objects',
      ...(line !== undefined && { line }),
      ...(column !== undefined && { column }),
    })),
  }
}

/** Text of the object's own settings, which goes into its version so that equal secrets do not show as equal. */
export function configText(object: VaultObject): string {
  const args = object.secretArgs === undefined ? 'null' : formatGoJson(object.secretArgs)
  return (
    `{"ObjectName":${formatGoJson(object.objectName)},"SecretPath":${formatGoJson(object.secretPath)},` +
    `"SecretKey":${formatGoJson(object.secretKey)},"Method":${formatGoJson(object.method)},` +
    `"SecretArgs":${args},"FilePermission":${formatGoJson(new JsonNumber(String(object.filePermission)))},` +
    `"Encoding":${formatGoJson(object.encoding)}}`
  )
}

/** 44 characters: URL-safe base64 of HMAC-SHA256 over settings and content. */
export function objectVersion(
  key: KeyObject | Uint8Array,
  config: string,
  content: Uint8Array | string,
): string {
  const digest = createHmac('sha256', key).update(config).update(content).digest('base64url')
  return `${digest}=`
}

/** Version of an object's file. A whole response counts by its data alone, not by its request id and lease. */
export function versionOf(object: VaultObject): (made: VersionFacts) => string {
  const config = configText(object)
  return ({ key, contents, value }) => {
    if (object.secretKey !== '') return objectVersion(key, config, contents)
    return objectVersion(key, config, formatGoJson(parseEnvelope(value).data ?? null))
  }
}

/** Names are checked without regard to case. */
export const ENCODINGS: ReadonlySet<string> = new Set(['', 'utf-8', 'base64', 'hex'])

/** Picks the object's bytes out of the envelope; undefined when the whole envelope is the file. */
export function selectOf(object: VaultObject): Select | undefined {
  if (object.secretKey === '') return undefined
  const { secretKey, secretPath } = object
  const encoding = object.encoding.toLowerCase()
  return (bytes) => {
    const value = valueAt(bytes, secretPath, secretKey)
    const decoded = decode(value, encoding)
    if (decoded !== undefined) return decoded
    throw new SelectError({
      kind: 'malformed',
      code: 'VAULT_ENCODING',
      message: `{${secretPath}}: the value of "${secretKey}" is not ${encoding}`,
      remedy: 'Store it encoded, or leave encoding out',
    })
  }
}

function valueAt(bytes: Uint8Array, secretPath: string, secretKey: string): string {
  let data: ReadonlyMap<string, JsonValue> | undefined
  try {
    data = parseEnvelope(bytes).data
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error
  }
  const value = data === undefined ? undefined : secretData(data).get(secretKey)
  if (value !== undefined) return valueText(value)
  throw new SelectError({
    kind: 'not-found',
    code: 'VAULT_NO_KEY',
    message: `{${secretPath}}: {key "${secretKey}" does not exist at the secret path}`,
    remedy: 'Check secretKey; it is a literal name, not a path',
  })
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/
const HEX = /^[0-9a-fA-F]*$/

/** Strict where `Buffer.from` is lenient; CR and LF are ignored in base64, as Go does. */
function decode(value: string, encoding: string): Buffer | undefined {
  if (encoding === 'base64') {
    const text = value.replace(/[\r\n]/g, '')
    return BASE64.test(text) && text.length % 4 === 0 ? Buffer.from(text, 'base64') : undefined
  }
  if (encoding === 'hex')
    return HEX.test(value) && value.length % 2 === 0 ? Buffer.from(value, 'hex') : undefined
  return Buffer.from(value)
}
