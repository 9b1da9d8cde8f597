/** Owns our real server with a scripted pipeline as the subject of the common suites. */
import { join } from 'node:path'
import { startProcess } from '../peers/process.ts'
import { answerOf } from './scripted-subject.ts'
import { writeAnswer } from './scripted.ts'
import type { Stage } from './stage.ts'
import type { Subject } from './subject.ts'

export async function serverSubject(stage: Stage): Promise<Subject> {
  const provider = 'scripted'
  return {
    provider,
    start: (directories = [stage.socketDirs.main]) =>
      startProcess({
        name: 'server',
        command: process.execPath,
        args: [join(import.meta.dirname, 'server-process.ts'), provider, ...directories],
        scratch: stage.scratch,
        ready: ({ log }) => (log().includes('ready\n') ? true : undefined),
      }),
    yields: async (name, contents) => {
      const answer = writeAnswer(stage.scratch, name, answerOf(contents))
      await stage.secretProviderClass(name, provider, { answer })
    },
    breaks: async (name) => {
      const answer = writeAnswer(stage.scratch, name, { code: 9, message: 'the scripted backend is broken' })
      await stage.secretProviderClass(name, provider, { answer })
    },
    failure: /the scripted backend is broken/,
  }
}
