/*
 * glombridge_shared.groovy - what the glombridge scripts share; not run by itself.
 *
 * Does:   reads the grading scheme, writes decisions onto objects and takes them back, saves images, and sees to it
 *         that all scripts are of one version. No window, no menu: it also runs without QuPath's user interface.
 * Needs:  QuPath 0.4 or later, no extension. It must lie in the same folder as the other scripts.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0.
 *
 * What is written onto objects is a contract with the glombridge program: docs/review-format.md.
 */

import com.google.gson.Gson
import com.google.gson.GsonBuilder
import groovy.transform.Field
import java.math.RoundingMode
import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.time.Instant
import java.time.temporal.ChronoUnit
import qupath.lib.common.ColorTools
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass

/** Names of metadata and measurements, as in glombridge/provenance.py. */
class Names {

    static final String STATE = 'glombridge.state'
    static final String PROPOSAL = 'proposal'
    static final String DISAGREEMENT_STATE = 'disagreement'
    static final String REVIEWER = 'glombridge.reviewer'
    static final String REVIEWED = 'glombridge.reviewed'
    static final String SECONDS = 'glombridge.seconds'
    static final String GRADED = 'glombridge.graded'
    static final String REASON = 'glombridge.reason'
    static final String SEARCHED = 'glombridge.searched'
    static final String SEARCHED_BY = 'glombridge.searched_by'
    static final String SEARCHED_AT = 'glombridge.searched_at'
    static final String CONFIDENCE = 'Confidence'
    static final String QUEUE_RANK = 'Queue rank'
    static final String LESION = 'Lesion: '
    static final String PROPOSED = 'Proposed'
    /** Classes of what shows errors of a detector or what two readers see differently; nobody's marks. */
    static final String DISAGREEMENT = 'Disagreement'
    static final List<String> ERRORS = ['Missed', 'False', DISAGREEMENT]

}

/** Objects of QuPath, read and written alike in all its versions. */
class ObjectFields {

    /** Metadata of an object, a copy. */
    static Map<String, String> metadata(PathObject object) {
        // Public as getMetadata() since 0.5; the methods of 0.4 are protected, which does not stop Groovy.
        return new LinkedHashMap<>(hasMetadataMap(object) ? object.getMetadata() : object.getUnmodifiableMetadataMap())
    }

    static void setMetadata(PathObject object, Map<String, String> values) {
        // In 0.5 the map of a detection is read-only, but these protected methods write it; later ones may drop them.
        if (object.metaClass.respondsTo(object, 'storeMetadataValue') && object.metaClass.respondsTo(object, 'clearMetadataMap')) {
            object.clearMetadataMap()
            values.each { key, value -> object.storeMetadataValue(key, value) }
            return
        }
        object.getMetadata().clear()
        object.getMetadata().putAll(values)
    }

    static Map<String, Double> measurements(PathObject object) {
        def list = object.getMeasurementList()
        // asMap() holds other types in other versions.
        return list.getMeasurementNames().collectEntries { name -> [(name): list.get(name)] }
    }

    static void setMeasurements(PathObject object, Map<String, Double> values) {
        if (measurements(object) == values) {
            return
        }
        def list = object.getMeasurementList()
        list.clear()
        values.each { name, value -> list.put(name, value as double) }
        list.close()
    }

    static String className(PathObject object) {
        return object.getPathClass()?.toString()
    }

    private static boolean hasMetadataMap(PathObject object) {
        return object.metaClass.respondsTo(object, 'getMetadata')
    }

}

/** Metadata of an image in a project: 0.6 made it a map, which the old methods still reach. */
class Images {

    static void mark(Object project, Object entry, String reader, boolean searched) {
        Decisions.checkReader(reader)
        if (searched) {
            entry.putMetadataValue(Names.SEARCHED, 'true')
            entry.putMetadataValue(Names.SEARCHED_BY, reader.trim())
            entry.putMetadataValue(Names.SEARCHED_AT, Decisions.now())
        } else {
            [Names.SEARCHED, Names.SEARCHED_BY, Names.SEARCHED_AT].each { entry.removeMetadataValue(it) }
        }
        project.syncChanges()
    }

    static boolean isSearched(Object entry) {
        return entry.getMetadataValue(Names.SEARCHED) == 'true'
    }

    /** What the data file of an image is now, to be compared later; null = there is none. */
    static String stamp(Object entry) {
        Path file = entry.getEntryPath()?.resolve('data.qpdata')
        if (file == null || !Files.exists(file)) {
            return null
        }
        return "${Files.size(file)} ${Files.getLastModifiedTime(file).toMillis()}"
    }

    /**
     * Saves an image the way QuPath does.
     *
     * @param opened what stamp() said when the image was opened. QuPath never looks at a file again once it has
     *              opened it, so a save would overwrite what a push has written since.
     * @return the new stamp
     */
    static String save(Object entry, Object imageData, String opened) {
        if (stamp(entry) != opened) {
            throw new IllegalStateException("The data of image '${entry.getImageName()}' was changed on disk by " +
                'something else since it was opened here, for example by a push of glombridge. It was not saved, so ' +
                'that nothing there is lost. Use File > Reload data; what you decided in this image since the last ' +
                'save must then be decided again.')
        }
        entry.saveImageData(imageData)
        return stamp(entry)
    }

}

/** Tells whether the file of an open image was changed by something else than this QuPath. */
class Watch {

    private String opened
    private boolean wasChanged

    Watch(String opened) {
        this.opened = opened
    }

    /** To be asked every second or so, and before each save. */
    boolean isStrange(String stamp, boolean isChanged) {
        // Whoever saves here turns a changed image into an unchanged one.
        boolean savedHere = wasChanged && !isChanged
        wasChanged = isChanged
        if (savedHere) {
            opened = stamp
        }
        return stamp != opened
    }

    String getOpened() {
        return opened
    }

}

/** The grading scheme of the project, as `glombridge scripts` writes it. */
class Scheme {

    /** What there is where no scheme was written: proposals can be accepted and rejected, nothing graded. */
    static final Map PLAIN = [
        format: 1, name: '', version: '', title: 'no grading scheme', classes: ['Glomerulus'], rejected: 'Rejected*',
        lesions: [], dominance: [],
    ]
    static final Set<String> KEYS_OF_THE_WINDOW = ['N', 'P', 'A', 'X', 'U', 'E', 'D', 'S'] as Set

    final String name
    final String version
    final String title
    final List<String> classes
    final String rejected
    final List<Map> lesions
    final List<String> dominance

    Scheme(Map document) {
        if (document.format as Integer != 1) {
            throw new IllegalArgumentException("The grading scheme has format ${document.format}, and these scripts " +
                "know format 1. Run 'glombridge scripts PROJECT' with the glombridge that wrote it.")
        }
        name = document.name
        version = document.version
        title = document.title ?: document.name
        classes = document.classes
        rejected = document.rejected
        lesions = document.lesions.collect { it + [max: it.max as int] }
        dominance = document.dominance
        Map<String, List<Map>> byKey = lesions.groupBy { it.key }
        byKey.each { key, same ->
            if (same.size() > 1 || key in KEYS_OF_THE_WINDOW) {
                throw new IllegalArgumentException("The grading scheme '${name}' gives the key '${key}' to " +
                    "${same*.name.join(' and ')}${key in KEYS_OF_THE_WINDOW ? ', and the window needs it itself' : ''}. " +
                    'Change the key in the scheme file.')
            }
        }
    }

    static Scheme of(Path projectFolder) {
        Path file = projectFolder.resolve('glombridge').resolve('scheme.json')
        return new Scheme(Files.exists(file) ? Json.read(file) as Map : PLAIN)
    }

    String getStamp() {
        return "${name} ${version}".trim()
    }

    /** The class of a glomerulus that an object belongs to: `Glomerulus` of `Glomerulus: Proposed`; null = none. */
    String baseOf(String className) {
        return classes.find { className == it || className?.startsWith(it + ': ') }
    }

    boolean isProposed(String className) {
        return className != null && className.endsWith(': ' + Names.PROPOSED)
    }

    Map lesion(String lesionName) {
        Map found = lesions.find { it.name == lesionName }
        if (found == null) {
            throw new IllegalArgumentException("The scheme '${stamp}' has no lesion '${lesionName}'. " +
                "It has: ${lesions*.name.join(', ')}.")
        }
        return found
    }

    /** Names of lesions that cannot be present beside one, whichever of the two says so. */
    List<String> excludedBy(Map lesion) {
        return lesions.findAll { it.name in lesion.excludes || lesion.name in it.excludes }*.name
    }

    Integer colorOf(String className) {
        Map found = lesions.find { it.label && className?.endsWith(': ' + it.label) }
        if (!found?.color) {
            return null
        }
        int rgb = Integer.parseInt(found.color.substring(1), 16)
        return ColorTools.packRGB((rgb >> 16) & 255, (rgb >> 8) & 255, rgb & 255)
    }

    /** Names of the classes that a review uses, by what they are for. */
    Map<String, List<String>> getClassNames() {
        return [
            proposals: classes.collect { it + ': ' + Names.PROPOSED },
            plain: classes,
            graded: [classes, lesions*.label.findAll { it }].combinations().collect { base, label -> base + ': ' + label },
            rejected: [rejected],
        ]
    }

    /** Classes that a review uses and a list of QuPath does not hold, with the colours of the scheme. */
    List<PathClass> missingClasses(Collection<PathClass> there) {
        Set<String> known = there*.toString() as Set
        return classNames.values().flatten().findAll { !(it in known) }.collect { wanted ->
            // The colour of a class that is in the list may be the user's choice, and is left to her.
            PathClass made = PathClass.fromString(wanted)
            if (colorOf(wanted) != null) {
                made.setColor(colorOf(wanted))
            }
            return made
        }
    }

    /** The class for what is present; the first in order of dominance that has a label is shown. */
    String classFor(String base, Map<String, Double> measurements) {
        String shown = dominance.find { lesionName ->
            lesion(lesionName).label && (measurements[Names.LESION + lesionName] ?: 0) > 0
        }
        return shown == null ? base : base + ': ' + lesion(shown).label
    }

}

/** Decisions, written onto objects. Each returns what the object was before, for restore(). */
class Decisions {

    final Scheme scheme

    Decisions(Scheme scheme) {
        this.scheme = scheme
    }

    static String now() {
        return Instant.now().truncatedTo(ChronoUnit.SECONDS).toString()
    }

    static void checkReader(String reader) {
        if (!reader?.trim()) {
            throw new IllegalArgumentException('A decision needs the name of its reader: type it into the field at the top.')
        }
    }

    /** A disagreement is settled; the verdict itself is on the glomerulus. Returns what the sign was before. */
    static Map settle(Map said, PathObject sign) {
        checkReader(said.reader)
        Map before = snapshot(sign)
        ObjectFields.setMetadata(sign, before.metadata + [(Names.REVIEWER): said.reader.trim(), (Names.REVIEWED): said.at ?: now()])
        return before
    }

    /** Class, measurements, metadata and lock of an object. */
    static Map snapshot(PathObject object) {
        return [pathClass: object.getPathClass(), measurements: ObjectFields.measurements(object),
                metadata: ObjectFields.metadata(object), locked: object.isLocked(),]
    }

    static void restore(PathObject object, Map before) {
        object.setPathClass(before.pathClass)
        ObjectFields.setMeasurements(object, before.measurements)
        ObjectFields.setMetadata(object, before.metadata)
        object.setLocked(before.locked)
    }

    /**
     * One decision.
     *
     * @param what accept, reject, lesion, graded, ungrade or edit
     * @param said reader; at (UTC, default now); seconds (null = unknown); for a lesion its name and value
     */
    Map decide(Map said, PathObject object, String what) {
        Map before = snapshot(object)
        if (what == 'edit') {
            object.setLocked(false)
            return before
        }
        if (!(what in ['accept', 'reject', 'lesion', 'graded', 'ungrade'])) {
            throw new IllegalArgumentException("There is no decision '${what}'.")
        }
        checkReader(said.reader)
        Map<String, Double> measurements = new LinkedHashMap<>(before.measurements)
        Map<String, String> metadata = new LinkedHashMap<>(before.metadata)
        String className = "${what}"(object, measurements, metadata, said)
        metadata[Names.REVIEWER] = said.reader.trim()
        metadata[Names.REVIEWED] = said.at ?: now()
        if (said.seconds != null) {
            metadata[Names.SECONDS] = total(metadata[Names.SECONDS], said.seconds)
        }
        if (className != ObjectFields.className(object)) {
            object.setPathClass(PathClass.fromString(className, scheme.colorOf(className)))
        }
        ObjectFields.setMeasurements(object, measurements)
        ObjectFields.setMetadata(object, metadata)
        return before
    }

    private String accept(PathObject object, Map measurements, Map metadata, Map said) {
        String className = ObjectFields.className(object)
        return scheme.isProposed(className) || scheme.baseOf(className) == null ? baseOf(object) : className
    }

    private String reject(PathObject object, Map measurements, Map metadata, Map said) {
        forget(measurements, metadata)
        return scheme.rejected
    }

    private String lesion(PathObject object, Map measurements, Map metadata, Map said) {
        Map lesion = scheme.lesion(said.name)
        if (said.value < 0 || said.value > lesion.max) {
            throw new IllegalArgumentException("'${lesion.name}' cannot be ${said.value}: it goes from 0 to ${lesion.max}.")
        }
        keepWhatTheClassSays(object, measurements)
        measurements[Names.LESION + lesion.name] = said.value as double
        if (said.value > 0) {
            scheme.excludedBy(lesion).each { measurements[Names.LESION + it] = 0d }
        }
        return scheme.classFor(baseOf(object), measurements)
    }

    private String graded(PathObject object, Map measurements, Map metadata, Map said) {
        if (!scheme.lesions) {
            throw new IllegalStateException("There is no grading scheme in this project. Name one as 'scheme' in [review] " +
                "of glombridge.toml and run 'glombridge scripts PROJECT'.")
        }
        keepWhatTheClassSays(object, measurements)
        scheme.lesions.each { measurements.putIfAbsent(Names.LESION + it.name, 0d) }
        metadata[Names.GRADED] = scheme.stamp
        return scheme.classFor(baseOf(object), measurements)
    }

    private String ungrade(PathObject object, Map measurements, Map metadata, Map said) {
        forget(measurements, metadata)
        return baseOf(object)
    }

    private String baseOf(PathObject object) {
        return scheme.baseOf(ObjectFields.className(object)) ?: scheme.classes[0]
    }

    private static void forget(Map measurements, Map metadata) {
        measurements.keySet().removeAll { it.startsWith(Names.LESION) }
        metadata.remove(Names.GRADED)
    }

    /** A lesion that a class set by hand names is present, also when others are measured. */
    private void keepWhatTheClassSays(PathObject object, Map measurements) {
        String label = ObjectFields.className(object)?.tokenize(':')?.last()?.trim()
        Map named = scheme.lesions.find { it.label == label }
        if (named != null && !measurements.containsKey(Names.LESION + named.name)) {
            measurements[Names.LESION + named.name] = 1d
            scheme.excludedBy(named).each { measurements.putIfAbsent(Names.LESION + it, 0d) }
        }
    }

    private static String total(String before, Object seconds) {
        BigDecimal sum = new BigDecimal(before ?: '0') + new BigDecimal(seconds.toString())
        return sum.setScale(1, RoundingMode.HALF_UP).toPlainString()
    }

}

/** Seconds that an object stands before a reader; stands still while nobody touches key or mouse. */
class Clock {

    private final Closure<Long> nanos
    private final long idleNanos
    private long last
    private long counted

    Clock(double idleMinutes, Closure<Long> nanos = { System.nanoTime() }) {
        this.nanos = nanos
        idleNanos = (long) (idleMinutes * 60e9)
        start()
    }

    void start() {
        last = nanos.call()
        counted = 0
    }

    /** A key or the mouse was used. */
    void touch() {
        long time = nanos.call()
        counted += Math.min(time - last, idleNanos)
        last = time
    }

    /** Seconds since start() or the last take(). */
    BigDecimal take() {
        touch()
        BigDecimal seconds = new BigDecimal(counted / 1e9d).setScale(1, RoundingMode.HALF_UP)
        start()
        return seconds
    }

}

/** JSON by Gson, which QuPath carries; Groovy's own is not there. */
class Json {

    static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create()

    static Object read(Path file) {
        return GSON.fromJson(text(file), Object)
    }

    /** UTF-8 without the mark of byte order that Windows editors put. */
    static String text(Path file) {
        String text = new String(Files.readAllBytes(file), StandardCharsets.UTF_8)
        return text.startsWith('\uFEFF') ? text.substring(1) : text
    }

    /** At every moment the old or the complete new file. */
    static void write(Path file, String text) {
        Path draft = file.resolveSibling(".${file.fileName}.${UUID.randomUUID().toString().take(8)}.partial")
        try {
            Files.write(draft, text.getBytes(StandardCharsets.UTF_8))
            Files.move(draft, file, StandardCopyOption.REPLACE_EXISTING)
        } finally {
            Files.deleteIfExists(draft)
        }
    }

}

// What the other scripts call on this one.

/**
 * What the scripts expect of each other. It is raised whenever one of them could no longer work with the others
 * as they were before: somebody may have changed one script, which 'glombridge scripts' then leaves as it is.
 */
int getLevel() {
    return 2
}

// Where the scripts lie.
@Field File folder = null

/** The first call of each script, with the level that it expects. */
void begin(File folder, int wanted) {
    checkQuPath()
    this.folder = folder
    if (wanted != level) {
        throw new IllegalStateException(mixed('the script that was started', wanted, 'glombridge_shared.groovy', level))
    }
}

/** What scripts of level 1 call first; they would fail in the middle of something else later. */
void requireQuPath() {
    checkQuPath()
    throw new IllegalStateException(mixed('the script that was started', 1, 'glombridge_shared.groovy', level))
}

void checkQuPath() {
    // Objects have had ids that are stored since 0.4; without them a decision could not be followed.
    if (!PathObject.methods.any { it.name == 'getID' }) {
        throw new UnsupportedOperationException('The glombridge scripts need QuPath 0.4 or later; this one is older. ' +
            'Its projects can be opened by a newer QuPath.')
    }
}

/** Another script that lies beside this one, and is no script of its own. */
Object part(String name) {
    File file = new File(folder, name)
    if (!file.isFile()) {
        throw new FileNotFoundException("${name} must lie beside glombridge_shared.groovy in ${folder}. Run " +
            "'glombridge scripts PROJECT', or copy the whole folder qupath_scripts there.")
    }
    Object part = new GroovyShell(this.class.classLoader).parse(file)
    int found = part.metaClass.respondsTo(part, 'getLevel') ? part.level : 1
    if (found != level) {
        throw new IllegalStateException(mixed(name, found, 'glombridge_shared.groovy', level))
    }
    part.shared = this
    return part
}

private String mixed(String one, int itsLevel, String other, int otherLevel) {
    return "The scripts in ${folder ?: 'this folder'} are of different versions of glombridge: ${one} is of level ${itsLevel}, ${other} " +
        "of level ${otherLevel}. Somebody changed one of them, and so 'glombridge scripts PROJECT' left it as it was and put the newer one " +
        "beside it, with '.new' behind its name. Take that one, bring the changes over, and run 'glombridge scripts PROJECT' again."
}

/** The version of glombridge that installed a script, from the line that it put in front; null = copied by hand. */
String versionOf(File script) {
    def stamp = script.withReader('UTF-8') { it.readLine() } =~ /^\/\/ glombridge (\S+), sha256 /
    return stamp.find() ? stamp.group(1) : null
}

/** The reader whom the project names, as `glombridge copy --reader` writes it; null = nobody. */
String readerOf(Path projectFolder) {
    Path file = projectFolder.resolve('glombridge').resolve('reader.txt')
    return Files.isRegularFile(file) ? Json.text(file).trim() ?: null : null
}

Scheme scheme(Path projectFolder) {
    return Scheme.of(projectFolder)
}

Scheme getPlainScheme() {
    return new Scheme(Scheme.PLAIN)
}

Scheme schemeOf(Map document) {
    return new Scheme(document)
}

Decisions decisions(Scheme scheme) {
    return new Decisions(scheme)
}

Clock clock(double idleMinutes, Closure<Long> nanos = { System.nanoTime() }) {
    return new Clock(idleMinutes, nanos)
}

Watch watch(String opened) {
    return new Watch(opened)
}

Class getImages() {
    return Images
}

Class getObjects() {
    return ObjectFields
}

Class getJson() {
    return Json
}

Class getNames() {
    return Names
}
