// What CodeNarc looks for in qupath_scripts/; run by test_groovy_scripts.py.
ruleset {
    ruleset('rulesets/basic.xml') {
        // QuPath's window is reached by name: the scripts must compile where there is none.
        exclude 'ClassForName'
    }
    ruleset('rulesets/braces.xml')
    ruleset('rulesets/concurrency.xml')
    ruleset('rulesets/exceptions.xml') {
        // A slide or image that cannot be read, for whatever reason, must not stop the review of the others.
        exclude 'CatchException'
        exclude 'ReturnNullFromCatchBlock'
    }
    ruleset('rulesets/formatting.xml') {
        LineLength { length = 150 }
        SpaceAroundMapEntryColon { characterAfterColonRegex = /\s/ }
    }
    ruleset('rulesets/groovyism.xml') {
        // Methods that are called without parentheses by the other scripts.
        exclude 'GetterMethodCouldBeProperty'
    }
    ruleset('rulesets/imports.xml')
    ruleset('rulesets/naming.xml')
    ruleset('rulesets/unnecessary.xml') {
        // QuPath's and JavaFX's methods are called by the names under which they are documented; a
        // property that does not exist is found only when the line runs.
        exclude 'UnnecessaryGetter'
        exclude 'UnnecessarySetter'
        exclude 'UnnecessaryReturnKeyword'
    }
    ruleset('rulesets/unused.xml') {
        // Decisions and kinds of outlines are called by name there.
        UnusedPrivateMethod { doNotApplyToFileNames = 'glombridge_shared.groovy, glombridge_exchange.groovy' }
        UnusedPrivateMethodParameter { doNotApplyToFileNames = 'glombridge_shared.groovy, glombridge_exchange.groovy' }
    }
}
