/** Owns classes of `provider: vault` and `openbao`, read with that dialect's own parser. */
import { resultOf } from '../../formats/steps.ts'
import { parseObjects, type VaultObject } from '../../providers/vault/objects.ts'
import type { VaultStore } from '../../providers/vault/store.ts'
import { modeText, usableKey, type Entry, type FileEntry } from './entries.ts'
import { CREDENTIALS_IN_ADDRESS, hasCredentials } from './eso-provider.ts'
import type { Field } from './field.ts'
import { literalProperty } from './gjson.ts'
import { entryField, type SpcReading, type SpcResult } from './spc-reading.ts'

export function convertVault(reading: SpcReading): SpcResult {
  const { parameters, plan, book, object: source, given } = reading
  const [output] = plan.outputs
  if (output === undefined) return { entries: [], stores: new Set() }
  const { flavour, address, ...rest } = output.source.store as VaultStore
  const secret = address !== undefined && hasCredentials(address)
  if (secret) given.note('lost', ...CREDENTIALS_IN_ADDRESS)
  const settings = { ...(address !== undefined && !secret && { address }), ...rest }
  const definition = {
    backend: 'vault',
    identity: 'pod',
    settings: { ...(flavour !== 'vault' && { flavour }), ...settings },
  } as const
  const handle = book.shared(`${flavour}-${settings.role ?? ''}`, definition, source)
  const entries = resultOf(parseObjects(parameters.get('objects') ?? '')).objects.flatMap(
    ({ object, line }, index) => {
      const field = entryField(reading, 'objects', line, `[${index}]`)
      return entryOf(object, handle.name, field) ?? []
    },
  )
  return { entries, stores: new Set([handle]) }
}

const OWN_CLASS = "Keep it in a class of its vendor's provider beside the new one"
const DECODE: ReadonlyMap<string, FileEntry['decode']> = new Map([
  ['base64', 'base64'],
  ['hex', 'hex'],
])

function entryOf(object: VaultObject, store: string, field: Field): Entry | undefined {
  const { objectName, secretKey, secretArgs, method, filePermission, encoding } = object
  const lost = (message: string): undefined => field.note('lost', message, OWN_CLASS)
  if (secretKey === '')
    return lost('without secretKey the file is the whole response, which has no counterpart')
  if (secretArgs !== undefined || !['', 'GET'].includes(method.toUpperCase()))
    return lost('requests with a method or arguments cannot be made by a class of provider keyferry')
  const { key, version } = pathOf(object.secretPath)
  if (key === undefined) return lost('secretPath has a query besides version')
  if (!usableKey(field, key)) return undefined
  const decode = DECODE.get(encoding.toLowerCase())
  return {
    path: objectName,
    store,
    key,
    ...(version !== undefined && { version }),
    property: literalProperty(secretKey),
    ...(decode && { decode }),
    ...(filePermission !== 0 && { mode: modeText(filePermission) }),
  }
}

/** The path without `/v1/`, and the version that a query asks for. */
function pathOf(secretPath: string): { readonly key?: string; readonly version?: string } {
  const mark = secretPath.indexOf('?')
  const path = mark === -1 ? secretPath : secretPath.slice(0, mark)
  const query = mark === -1 ? '' : secretPath.slice(mark + 1)
  const [, version] = /^version=(\d{1,10})$/.exec(query) ?? []
  if (query !== '' && version === undefined) return {}
  return { key: path.replace(/^\//, '').replace(/^v1\//, ''), ...(version !== undefined && { version }) }
}
