// Parses each file that is named and prints what the parser says of it; '-' = nothing.
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.CompilationFailedException
import org.codehaus.groovy.control.Phases

args.each { name ->
    def unit = new CompilationUnit()
    unit.addSource(new File(name))
    try {
        // Before classes are looked up: those of QuPath and JavaFX are not here.
        unit.compile(Phases.CONVERSION)
        println '-'
    } catch (CompilationFailedException error) {
        println error.message.replaceAll(/\s+/, ' ')
    }
}
