import { mountSuite15 } from './mount-suite-1.5.ts'
import { scriptedSubject } from './scripted-subject.ts'

mountSuite15('the scripted provider behind our legacy-authority code', scriptedSubject, [])
