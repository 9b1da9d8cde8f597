/** `keyferry completion`: bash's function is run as bash runs it; the other shells' scripts name every command. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const CLI = join(import.meta.dirname, '../../src/cli.ts')

function script(shell: string): { status: number | null; stdout: string } {
  const { status, stdout } = spawnSync(process.execPath, [CLI, 'completion', shell], { encoding: 'utf8' })
  return { status, stdout }
}

describe('bash', () => {
  const { stdout } = script('bash')

  /** What bash offers after these words, the last of which is not finished. */
  function offered(...words: readonly string[]): string[] {
    const run = `${stdout}\nCOMP_WORDS=("$@")\nCOMP_CWORD=$(($# - 1))\n_keyferry\nprintf '%s\\n' "\${COMPREPLY[@]}"`
    const result = spawnSync('bash', ['-c', run, 'bash', 'keyferry', ...words], { encoding: 'utf8' })
    expect(result.stderr).toBe('')
    return result.stdout.split('\n').filter(Boolean)
  }

  it('offers commands, and the one that begins so', () => {
    expect(offered('')).toEqual(expect.arrayContaining(['serve', 'mount', 'lint', 'secret', 'completion']))
    expect(offered('comp')).toEqual(['completion'])
  })

  it('offers the options of the command that stands there', () => {
    expect(offered('lint', '--s')).toEqual(['--service-account', '--sarif'])
    expect(offered('serve', '--config', 'a.yaml', '--so')).toEqual(['--socket-dir'])
  })

  it('offers the verbs of a command and their options', () => {
    expect(offered('secret', 'de').toSorted()).toEqual(['delete', 'describe'])
    expect(offered('secret', 'put', '--bi')).toEqual(['--bind'])
  })

  it('offers the values an option or an argument can have, and leaves others to file names', () => {
    expect(offered('serve', '--log-level', '')).toEqual(['debug', 'info', 'warn', 'error'])
    expect(offered('completion', '')).toEqual(expect.arrayContaining(['bash', 'zsh', 'fish']))
    expect(offered('lint', '--config', '')).toEqual([])
    expect(stdout).toContain('complete -o default -F _keyferry keyferry')
  })
})

it.each(['zsh', 'fish'])('%s has every command and verb', (shell) => {
  const { stdout } = script(shell)
  for (const name of ['serve', 'mount', 'lint', 'quickstart', 'secret', 'put', 'verify', 'completion'])
    expect(stdout).toMatch(new RegExp(`\\b${name}\\b`))
})

it('another shell is wrong use', () => {
  expect(script('csh')).toEqual({ status: 2, stdout: '' })
})
