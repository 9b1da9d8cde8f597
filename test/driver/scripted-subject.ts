/** Owns the scripted provider as the subject of the common suites. */
import { startScripted } from './scripted.ts'
import type { Answer } from './scripted.ts'
import { writeAnswer } from './scripted.ts'
import type { Stage } from './stage.ts'
import type { Contents, Subject } from './subject.ts'

/** Versions change with the content, as the contract asks. */
export function answerOf(contents: Contents): Answer {
  return {
    files: Object.entries(contents).map(([path, text]) => ({ path, text })),
    versions: Object.entries(contents).map(([id, text]) => ({ id, version: `v-${text}` })),
  }
}

export async function scriptedSubject(stage: Stage): Promise<Subject> {
  const provider = 'scripted'
  return {
    provider,
    start: ([directory = stage.socketDirs.main] = []) =>
      startScripted(directory, provider, stage.scratch, stage.driver.version === '1.5.6' ? 'shim' : 'plain'),
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
