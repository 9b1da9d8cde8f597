/** Owns the SecretProviderClass that carries a document inline (sops A1, B2 `seal --spc`). */
import { WriteError } from './error.ts'
import { yamlQuoted } from './emit/yaml.ts'
import type { Format } from '../stores/store.ts'

/** Largest inline document that the provider reads (sops A15). */
const MAX_INLINE_BYTES = 512 * 1024

export interface InlineClass {
  readonly name: string
  readonly namespace: string
  readonly format: Format
  readonly document: Buffer
}

/** Whether a text survives a YAML literal block unchanged: printable ASCII, no blank first, one feed last. */
function survivesBlock(text: string): boolean {
  return /^[\x21-\x7e][\x20-\x7e\n\t]*\n$/.test(text) && !text.endsWith('\n\n')
}

function documentLines(document: Buffer): readonly string[] {
  const text = document.toString('latin1')
  if (!survivesBlock(text)) return [`    sopsDocumentBase64: ${document.toString('base64')}`]
  const lines = text.slice(0, -1).split('\n')
  return ['    sopsDocument: |', ...lines.map((line) => (line === '' ? '' : `      ${line}`))]
}

/** What a binary document is mounted as: it has no keys that could name files. */
function objectLines({ format, name }: InlineClass): readonly string[] {
  return format === 'binary'
    ? ['    expand: whole', '    objects: |', `      - objectName: ${yamlQuoted(name)}`]
    : []
}

/**
 * A complete SecretProviderClass that `provider: sops` mounts: one file per top-level key.
 * @throws WriteError `usage` for a bad name or a document that is too large to be inline.
 */
export function secretProviderClass(request: InlineClass): string {
  const { name, namespace, format, document } = request
  if (!/^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/.test(name)) {
    throw new WriteError('usage', `${JSON.stringify(name.slice(0, 120))} is no name of a Kubernetes object`)
  }
  if (document.length > MAX_INLINE_BYTES) {
    throw new WriteError(
      'usage',
      'the document is larger than the 512 KiB that a mount takes inline',
      'Use `put`.',
    )
  }
  return [
    'apiVersion: secrets-store.csi.x-k8s.io/v1',
    'kind: SecretProviderClass',
    'metadata:',
    `  name: ${yamlQuoted(name)}`,
    `  namespace: ${yamlQuoted(namespace)}`,
    'spec:',
    '  provider: sops',
    '  parameters:',
    `    sopsFormat: ${format}`,
    ...objectLines(request),
    ...documentLines(document),
    '',
  ].join('\n')
}
