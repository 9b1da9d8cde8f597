/** Owns the list of what a conversion could not carry over, and how people read it. */
import { printable } from '../lint/findings.ts'

/** One thing that the converted classes and stores do not do as their source did. */
export interface Note {
  /**
   * `lost`: a file, a store or a protection is missing until somebody acts. `changed`: nothing is missing, but it
   * works in another way with Keyferry.
   */
  readonly severity: 'lost' | 'changed'
  readonly file: string
  /** Both from 1, of the source file; columns count UTF-16 units. */
  readonly line: number
  readonly column: number
  /** Kind, namespace and name of the source object, e.g. `ExternalSecret shop/db`. */
  readonly object: string
  /** Path below the object, e.g. `spec.data[2].remoteRef.property`. */
  readonly field: string
  /** Why. Names fields, objects and stores; never a value that could be a secret. */
  readonly message: string
  /** What to do about it. */
  readonly remedy: string
}

/** By file as given, then by place. */
export function sortedNotes(notes: readonly Note[], files: readonly string[]): readonly Note[] {
  return notes.toSorted(
    (a, b) => files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column,
  )
}

/** The list for people, one note after the other; empty without notes. */
export function notesText(notes: readonly Note[]): string {
  if (notes.length === 0) return ''
  const lines = notes.map((note) => {
    const place = `${printable(note.file)}:${note.line}:${note.column}`
    return `${place}  ${note.severity}  ${printable(note.object)}${note.field === '' ? '' : `  ${printable(note.field)}`}\n    ${noteAdvice(note)}\n`
  })
  const lost = notes.filter(({ severity }) => severity === 'lost').length
  return `${lines.join('')}${notes.length} not carried over as they were: ${lost} lost, ${notes.length - lost} changed\n`
}

/** Reason and remedy on one line. */
export function noteAdvice({ message, remedy }: Pick<Note, 'message' | 'remedy'>): string {
  return printable(`${sentence(message)} ${sentence(remedy)}`)
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(first) ? first : `${first}.`
}
