/** Owns a run of the command line from its sources, to its end. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

/** Root of the repository, where runs begin. */
export const ROOT = join(import.meta.dirname, '../..')
/** The command line's entry. */
export const CLI = join(ROOT, 'src/cli.ts')

export function keyferry(
  args: readonly string[],
  input = '',
): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], {
    cwd: ROOT,
    input,
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}
